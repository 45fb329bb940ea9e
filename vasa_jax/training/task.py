"""The interface between what is trained and what trains it: a stage as a handful of functions (design section 2: one
step, one loop)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax


@dataclasses.dataclass(frozen=True)
class Task:
    """One stage, bound to its experiment.

    init: key to (parameters, constants); constants are placeholders where `prepare` measures them.
    loss: (params, constants, batch, keys, step) to (mean over samples, metrics); see `step.Loss`.
    batch_spec: batch size to the shapes of a batch.
    prepare: workdir to the constants; makes the data first.
    dataset: (workdir, batch size, seed) to endless training batches.
    held_out: workdir to one batch of held-out samples.
    evaluate: (params, constants, held-out batch) to named scalars.
    pictures: (params, constants, held-out batch) to named pictures (h, w, 3), 0..1.
    blocks: parameters to those of each released block, by name; together they are what a release holds.
    macs: what costs multiply-adds, by name.
    """

    init: Callable[[Any], tuple[Any, Any]]
    loss: Callable[..., tuple[Any, dict[str, Any]]]
    batch_spec: Callable[[int], dict[str, jax.ShapeDtypeStruct]]
    prepare: Callable[[Path], Any]
    dataset: Callable[[Path, int, int], grain.IterDataset]
    held_out: Callable[[Path], dict[str, Any]]
    evaluate: Callable[[Any, Any, dict[str, Any]], dict[str, float]]
    pictures: Callable[[Any, Any, dict[str, Any]], dict[str, Any]]
    blocks: Callable[[Any], dict[str, Any]]
    macs: Callable[[], dict[str, int]]
