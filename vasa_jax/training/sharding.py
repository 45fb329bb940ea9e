"""Which arrays of a train state are split over devices, and along which axis: one table of rules.

A rule is a pattern of names (`params/decoder/up_0/conv_0/kernel`, `opt/1/0/mu/...`) and a placement; the first that
matches whole decides. Parameters, their average and the optimiser's moments have the same shapes, so they are split
alike, and the update of a parameter needs no other device's part (Rajbhandari et al. 2020, ZeRO).
"""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vasa_jax.checkpoint import flatten

AXIS = "fsdp"
"""The mesh axis over which arrays are split."""
SMALL = 2**12
"""Arrays of fewer elements stay whole: talking about them costs more than keeping them."""


def whole(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """A copy on every device."""
    return PartitionSpec()


def largest_axis(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """Split along the longest axis that `parts` divides, the last of equals; whole where there is none. The blocks of a
    stack are fewer than its channels, so that it is not split between blocks."""
    divisible = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if math.prod(shape) < SMALL or not divisible:
        return PartitionSpec()
    chosen = max(divisible, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*(AXIS if axis == chosen else None for axis in range(len(shape))))


Placement = Callable[[tuple[int, ...], int], PartitionSpec]
RULES: tuple[tuple[str, Placement], ...] = (("step|constants/.*", whole), (".*", largest_axis))


def shard(state: Any, mesh: Mesh) -> Any:
    """A tree as `state` (arrays or shapes) of NamedShardings on a mesh that has the axis AXIS."""

    def place(name: str, shape: tuple[int, ...]) -> NamedSharding:
        rule = next(placement for pattern, placement in RULES if re.fullmatch(pattern, name))
        return NamedSharding(mesh, rule(shape, mesh.shape[AXIS]))

    placed = [place(name, tuple(leaf.shape)) for name, leaf in flatten(state).items()]
    return jax.tree.unflatten(jax.tree.structure(state), placed)


def bytes_per_device(state: Any, shardings: Any) -> int:
    """Bytes of a state (arrays or shapes) that each device holds under these shardings."""
    parts = jax.tree.map(
        lambda leaf, place: math.prod(place.shard_shape(tuple(leaf.shape))) * leaf.dtype.itemsize, state, shardings
    )
    return sum(jax.tree.leaves(parts))
