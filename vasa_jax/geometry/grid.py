"""Sampling grids and the 3-D grid sample (MegaPortraits section 3.1: warping a feature volume by a 3-D field).

A grid holds one point (x, y, z) per output cell, in [-1, 1] with the ends on the centres of the first and last cell
(align_corners=True). Points outside are clamped to the border. Sampling is backward: output(p) = volume(grid(p)), from
the eight neighbours with the trilinear weights

    w = prod over axes of (1 - |coordinate - corner|)                                                            (1)

written as eight gathers of whole channel rows, which XLA fuses into one pass on every platform.
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def identity_grid(depth: int, height: int, width: int) -> Float[Array, "d h w 3"]:
    """The grid that leaves a volume as it is: cell (k, j, i) holds its own (x, y, z); an axis of one cell holds 0."""
    z, y, x = (identity_axis(size) for size in (depth, height, width))
    z, y, x = jnp.meshgrid(z, y, x, indexing="ij")
    return jnp.stack([x, y, z], axis=-1)


def grid_sample_3d(
    volume: Float[Array, "b d h w c"], grid: Float[Array, "n depth height width 3"]
) -> Float[Array, "n depth height width c"]:
    """Sample a volume at the grid's points, trilinearly; the result has the volume's dtype.

    Each of the b volumes serves n / b consecutive grids, so frames of one portrait need no copies of its volume.
    Differentiable in both arguments; a clamped coordinate has no gradient.

    Raises:
        ValueError: n is not a multiple of b.
    """
    depth, height, width = volume.shape[1:4]
    z, y, x = (_clamped(grid[..., 2 - axis], size) for axis, size in enumerate((depth, height, width)))
    return _interpolate(volume, z, y, x)


def grid_sample_3d_zeros(
    volume: Float[Array, "b d h w c"], grid: Float[Array, "n depth height width 3"]
) -> Float[Array, "n depth height width c"]:
    """As `grid_sample_3d`, in the other convention: -1 and 1 are the outer *edges* of the first and last cell, and
    cells beyond them count as zero (torch's `align_corners=False`, `padding_mode="zeros"`).

    Raises:
        ValueError: n is not a multiple of b.
    """
    depth, height, width = volume.shape[1:4]
    z, y, x = (_padded(grid[..., 2 - axis], size) for axis, size in enumerate((depth, height, width)))
    return _interpolate(volume, z, y, x)


Pair = tuple[tuple[Array, Array], tuple[Array, Array]]
"""(index, weight) of the cells below and above a coordinate of one axis."""


def _interpolate(volume: Array, z: Pair, y: Pair, x: Pair) -> Array:
    """Equation 1: eight gathers of channel rows."""
    batch, depth, height, width, channels = volume.shape
    shape = z[0][0].shape
    if shape[0] % batch:
        raise ValueError(f"{shape[0]} grids cannot be shared evenly by {batch} volumes: pass a multiple")
    rows = volume.reshape(-1, channels)
    owner = (jnp.arange(shape[0]) // (shape[0] // batch) * depth)[:, None, None, None]
    total = jnp.zeros((*shape, channels), jnp.promote_types(volume.dtype, jnp.float32))
    for (iz, wz), (iy, wy), (ix, wx) in itertools.product(z, y, x):
        index = ((iz + owner) * height + iy) * width + ix
        total = total + rows.at[index].get(mode="clip") * (wz * wy * wx)[..., None]
    return total.astype(volume.dtype)


def _clamped(coordinate: Float[Array, "*shape"], size: int) -> Pair:
    """Cells around a coordinate in [-1, 1], the ends on the centres of the outer cells."""
    coordinate = coordinate.astype(jnp.promote_types(coordinate.dtype, jnp.float32))
    position = jnp.clip((coordinate + 1.0) * (0.5 * (size - 1)), 0.0, size - 1.0)
    below = jnp.clip(jnp.floor(position), 0.0, max(size - 2.0, 0.0))
    index, share = below.astype(jnp.int32), position - below
    return (index, 1.0 - share), (jnp.minimum(index + 1, size - 1), share)


def _padded(coordinate: Float[Array, "*shape"], size: int) -> Pair:
    """Cells around a coordinate, the ends on the outer edges; weights of cells that do not exist are zero."""
    coordinate = coordinate.astype(jnp.promote_types(coordinate.dtype, jnp.float32))
    position = ((coordinate + 1.0) * size - 1.0) * 0.5
    below = jnp.floor(jnp.clip(position, -2.0, size * 1.0))
    share = position - below

    def cell(index: Array, weight: Array) -> tuple[Array, Array]:
        exists = (index >= 0) & (index < size)
        return jnp.clip(index, 0, size - 1), jnp.where(exists, weight, 0.0)

    index = below.astype(jnp.int32)
    return cell(index, 1.0 - share), cell(index + 1, share)


def resize_linear(
    field: Float[Array, "b d h w c"], shape: tuple[int, int, int]
) -> Float[Array, "b depth height width c"]:
    """Resize a field to (depth, height, width) cells, linearly with the ends kept in place (align_corners=True)."""
    for axis, size in enumerate(shape, start=1):
        if field.shape[axis] != size:
            nodes = jnp.arange(field.shape[axis]) * 1.0
            places = (identity_axis(size) + 1.0) * (0.5 * (field.shape[axis] - 1))
            weights = jnp.maximum(1.0 - jnp.abs(places[:, None] - nodes[None]), 0.0).astype(field.dtype)
            moved = jnp.tensordot(weights, field, (1, axis), precision=jax.lax.Precision.HIGHEST)
            field = jnp.moveaxis(moved, 0, axis)
    return field


def identity_axis(size: int) -> Float[Array, " size"]:
    """Coordinates of one axis of `identity_grid`: -1 to 1 in equal steps, 0 for a single cell."""
    return jnp.linspace(-1.0, 1.0, size) if size > 1 else jnp.zeros(1)
