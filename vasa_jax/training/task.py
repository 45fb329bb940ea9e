"""The interface between what is trained and what trains it: a stage as a handful of functions (design section 2: one
step, one loop)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vasa_jax.data.pipeline import Batches
from vasa_jax.training.players import Player
from vasa_jax.training.step import Forward, View, still, untouched


@dataclasses.dataclass(frozen=True)
class Task:
    """One stage, bound to its experiment.

    init: key to (parameters, constants, mutable numbers), see `TrainState`; constants are placeholders where `measure`
        gives them.
    forward: (params, frozen, batch, keys) to the views of a step; see `step.Forward`.
    players: who learns from the views, the owner of the forward pass first.
    batch_spec: batch size to the shapes of a batch.
    prepare: workdir; makes the data where they are missing, and checks them.
    measure: (workdir, constants of the run's source or None) to (constants, remarks for the log by name); measures
        them on the data where there is no source, else compares the source's with the data.
    dataset: (workdir, batch size, seed, first step, process, processes) to an iterator over this process's slice of
        every training batch from the first step on, endless, NumPy, with `close()` and `skipped`; see
        `data.pipeline.Batches`.
    held_out: workdir to one batch of held-out samples.
    evaluate: (params, constants, held-out batch) to named scalars.
    judge: (params, constants, workdir) to named scalars: what judges say of generated pictures or motion.
    pictures: (params, constants, held-out batch) to named pictures (h, w, 3), 0..1.
    videos: (params, constants, workdir) to named `logs.Video`s of held-out clips.
    blocks: parameters to those of each released block, by name; together they are what a release holds.
    macs: what costs multiply-adds, by name.
    helpers: frozen parameters that a step takes beside its state, never saved; helper_shapes: their shapes.
    view: (helpers, batch, keys) to the batch as the forward pass takes it; no gradient goes through.
    advance: (parameters, mutable numbers) to the latter for this step; of parameters alone, so that every device finds
        the same.
    warn: means of the metrics since the last log line to what is to be said of them, "" where they look well.
    """

    init: Callable[[Any], tuple[Any, Any, Any]]
    forward: Forward
    players: tuple[Player, ...]
    batch_spec: Callable[[int], dict[str, jax.ShapeDtypeStruct]]
    prepare: Callable[[Path], None]
    measure: Callable[[Path, Any], tuple[Any, dict[str, Any]]]
    dataset: Callable[[Path, int, int, int, int, int], Batches]
    held_out: Callable[[Path], dict[str, Any]]
    evaluate: Callable[[Any, Any, dict[str, Any]], dict[str, float]]
    judge: Callable[[Any, Any, Path], dict[str, float]]
    pictures: Callable[[Any, Any, dict[str, Any]], dict[str, Any]]
    videos: Callable[[Any, Any, Path], dict[str, Any]]
    blocks: Callable[[Any], dict[str, Any]]
    macs: Callable[[], dict[str, int]]
    helpers: Callable[[], Any] = dict
    helper_shapes: Callable[[], Any] = dict
    view: View = untouched
    advance: Callable[[Any, Any], Any] = still
    warn: Callable[[dict[str, float]], str] = lambda means: ""
