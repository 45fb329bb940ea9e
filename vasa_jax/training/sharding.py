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


def outputs(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """Split a kernel (..., inputs, outputs) along its outputs or, where `parts` does not divide them, its inputs; whole
    where it divides neither. Each output's weights then lie together, so that their mean and length (weight
    standardisation) ask no other device; and a kernel of a stack is split as one alone."""
    if math.prod(shape) < SMALL:
        return PartitionSpec()
    axis = next((axis for axis in (-1, -2)[: len(shape)] if shape[axis] % parts == 0), None)
    if axis is None:
        return PartitionSpec()
    return PartitionSpec(*(AXIS if place == len(shape) + axis else None for place in range(len(shape))))


Placement = Callable[[tuple[int, ...], int], PartitionSpec]
RULES: tuple[tuple[str, Placement], ...] = (("(params|ema|opt)/.*kernel", outputs), (".*", whole))
"""Kernels are nearly all of a state. Layers gather what this splits (`nn.gathering`); all else is whole everywhere."""


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
