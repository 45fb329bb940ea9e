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
    batch, depth, height, width, channels = volume.shape
    if grid.shape[0] % batch:
        raise ValueError(f"{grid.shape[0]} grids cannot be shared evenly by {batch} volumes: pass a multiple")
    rows = volume.reshape(-1, channels)
    owner = jnp.arange(grid.shape[0]) // (grid.shape[0] // batch) * depth
    z0, z1, fz = _neighbours(grid[..., 2], depth)
    y0, y1, fy = _neighbours(grid[..., 1], height)
    x0, x1, fx = _neighbours(grid[..., 0], width)
    total = jnp.zeros((*grid.shape[:-1], channels), jnp.promote_types(volume.dtype, jnp.float32))
    for corner in itertools.product((0, 1), repeat=3):
        z, y, x = (pair[side] for pair, side in zip(((z0, z1), (y0, y1), (x0, x1)), corner, strict=True))
        wz, wy, wx = (f if side else 1.0 - f for f, side in zip((fz, fy, fx), corner, strict=True))
        index = ((z + owner[:, None, None, None]) * height + y) * width + x
        total = total + rows.at[index].get(mode="clip") * (wz * wy * wx)[..., None]
    return total.astype(volume.dtype)


def _neighbours(coordinate: Float[Array, "*shape"], size: int) -> tuple[Array, Array, Float[Array, "*shape"]]:
    """Indices of the cells below and above a coordinate in [-1, 1], and the weight of the upper one."""
    position = jnp.clip((coordinate.astype(jnp.float32) + 1.0) * (0.5 * (size - 1)), 0.0, size - 1.0)
    below = jnp.clip(jnp.floor(position), 0.0, max(size - 2.0, 0.0))
    index = below.astype(jnp.int32)
    return index, jnp.minimum(index + 1, size - 1), position - below


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
