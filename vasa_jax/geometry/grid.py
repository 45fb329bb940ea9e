"""Sampling grids and the 3-D grid sample (MegaPortraits section 3.1: warping a feature volume by a 3-D field).

A grid holds one point (x, y, z) per output cell, in [-1, 1] with the ends on the centres of the first and last cell
(align_corners=True). Points outside are clamped to the border. Sampling is backward: output(p) = volume(grid(p)), from
the eight neighbours with the trilinear weights

    w = prod over axes of (1 - |coordinate - corner|)                                                            (1)

written as eight gathers of whole channel rows, which XLA fuses into one pass on every platform; pictures are sampled by
the same code with four. A gather looks into the volumes of its own group alone, so a batch that is split over devices
needs nothing from the others.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def identity_grid(depth: int, height: int, width: int) -> Float[Array, "d h w 3"]:
    """The grid that leaves a volume as it is: cell (k, j, i) holds its own (x, y, z); an axis of one cell holds 0."""
    z, y, x = (identity_axis(size) for size in (depth, height, width))
    z, y, x = jnp.meshgrid(z, y, x, indexing="ij")
    return jnp.stack([x, y, z], axis=-1)


def share_out(b: int, n: int, owners: Sequence[int] = ()) -> tuple[int, tuple[int, ...]]:
    """Which of b things serve n users, so that frames of one portrait need no copies of it.

    Things and users come in as many groups: with m `owners`, user j of a group of m is served by thing owners[j] of its
    group. Without, each thing is a group and serves n / b consecutive users.

    Returns:
        The number of groups, and the owners within each.

    Raises:
        ValueError: b and n do not fall into such groups.
    """
    owners = tuple(owners) or (0,) * max(n // b, 1)
    groups = max(n // len(owners), 1)
    if n != groups * len(owners) or b % groups:
        raise ValueError(f"{b} things cannot be shared out evenly over {n} users with {owners=}: pass a multiple")
    if not all(0 <= owner < b // groups for owner in owners):
        raise ValueError(f"{owners=} must lie between 0 and {b // groups - 1}, the last thing of a group")
    return groups, owners


def grid_sample_3d(
    volume: Float[Array, "b d h w c"], grid: Float[Array, "n depth height width 3"], owners: Sequence[int] = ()
) -> Float[Array, "n depth height width c"]:
    """Sample a volume at the grid's points, trilinearly; the result has the volume's dtype.

    `owners` says which volume serves which grid, by `share_out`: consecutive grids unless told. Differentiable in both
    arguments; a clamped coordinate has no gradient.

    Raises:
        ValueError: the volumes cannot be shared out over the grids.
    """
    axes = [clamped(grid[..., 2 - axis], size) for axis, size in enumerate(volume.shape[1:4])]
    return interpolate(volume, axes, owners)


def grid_sample_3d_zeros(
    volume: Float[Array, "b d h w c"], grid: Float[Array, "n depth height width 3"]
) -> Float[Array, "n depth height width c"]:
    """As `grid_sample_3d`, in the other convention: -1 and 1 are the outer *edges* of the first and last cell, and
    cells beyond them count as zero (torch's `align_corners=False`, `padding_mode="zeros"`).

    Raises:
        ValueError: n is not a multiple of b (`share_out`).
    """
    axes = [_padded(grid[..., 2 - axis], size) for axis, size in enumerate(volume.shape[1:4])]
    return interpolate(volume, axes)


Pair = tuple[tuple[Array, Array], tuple[Array, Array]]
"""(index, weight) of the cells below and above a coordinate of one axis."""


def interpolate(
    volume: Float[Array, "b *sizes c"], axes: Sequence[Pair], owners: Sequence[int] = ()
) -> Float[Array, "n *shape c"]:
    """Equation 1 in any number of dimensions: a gather of channel rows for each corner of a cell.

    Args:
        volume: (b, one size per axis, c).
        axes: in the order of the volume's, the cells around each point and their weights, arrays (n, ...).
        owners: which volume serves which points, as in `share_out`.

    Returns:
        (n, ..., c) in the units and the dtype of `volume`.

    Raises:
        ValueError: the volumes cannot be shared out over the points.
    """
    batch, *sizes, channels = volume.shape
    shape = axes[0][0][0].shape
    groups, owners = share_out(batch, shape[0], owners)
    rows = volume.reshape(groups, -1, channels)
    served_by = jnp.tile(jnp.asarray(owners), groups).reshape(-1, *(1 for _ in shape[1:]))
    look = jax.vmap(lambda rows, index: rows.at[index].get(mode="clip"))
    total = jnp.zeros((*shape, channels), jnp.promote_types(volume.dtype, jnp.float32))
    for corner in itertools.product(*axes):
        index, weight = served_by, jnp.ones(())
        for size, (cell, share) in zip(sizes, corner, strict=True):
            index, weight = index * size + cell, weight * share
        found = look(rows, index.reshape(groups, -1)).reshape(total.shape)
        total = total + found * weight[..., None]
    return total.astype(volume.dtype)


def clamped(coordinate: Float[Array, "*shape"], size: int) -> Pair:
    """Cells around a coordinate in [-1, 1], the ends on the centres of the first and the last of `size` cells; points
    outside are moved to the border, and have no gradient."""
    coordinate = coordinate.astype(jnp.promote_types(coordinate.dtype, jnp.float32))
    first, last = jnp.zeros((), coordinate.dtype), jnp.asarray(size - 1.0, coordinate.dtype)
    # Not jnp.clip: its derivative asks whether x equals the result, see `nn.resize.max_pool`.
    position = jax.lax.clamp(first, (coordinate + 1.0) * (0.5 * (size - 1)), last)
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
