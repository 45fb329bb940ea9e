"""What the tasks do with clips: batches to train on, held-out samples, and a look at the first before anything is
compiled."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.data.pipeline import Batches, CorruptRecords, Others, Sample, make_dataset, read_other, readable
from vasa_jax.data.records import CorruptRecordError, StoredClip
from vasa_jax.data.shards import SPLITS, Shards
from vasa_jax.errors import UserError
from vasa_jax.training import world_data
from vasa_jax.training.config import (
    Experiment,
    Records,
    World,
)

SHOWN = 8
"""Held-out samples that pictures show."""


def compute_dtype(experiment: Experiment) -> str:
    """The dtype that `experiment.dtype` means on the devices at hand."""
    if experiment.dtype != "auto":
        return experiment.dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def training_batches(
    data: World | Records,
    sample: Callable[[StoredClip, np.random.Generator], Sample],
    pair: Callable[[Shards], Others | None],
    workdir: Path,
    batch_size: int,
    seed: int,
    first_step: int,
    process: int,
    processes: int,
) -> Batches:
    """Training batches of a run, see `make_dataset`; `pair` says what a sample has of another clip."""
    source = world_data.open_split(data, workdir, "train")
    order = (batch_size, seed, first_step, process, processes)
    reading = (data.threads, data.prefetch, data.max_corrupt)
    return make_dataset(source, sample, *order, *reading, world_data.weights(data), pair(source))


def held_out_samples(
    data: World | Records,
    workdir: Path,
    sample: Callable[[StoredClip], Sample],
    pair: Callable[[Shards], Others | None],
) -> list[Sample]:
    """Samples of the first readable validation clips of all folders in turn, at most `data.validation_clips`."""
    source = world_data.open_split(data, workdir, "validation")
    others, corrupt = pair(source), CorruptRecords(source, data.max_corrupt)
    found = []
    for index, value in readable(source, sample, data.max_corrupt, source.in_turn()):
        other = read_other(source, index, others, np.random.default_rng(index), corrupt) if others else {}
        found.append(value | other)
        if len(found) == data.validation_clips:
            break
    return found


def check_first(data: World | Records, workdir: Path, sample: Callable[[StoredClip, Any], Sample]) -> None:
    """Make a sample of the first readable clip of each folder and split, before anything is compiled.

    Raises:
        UserError: naming the shard and clip, and what is wrong with it.
    """
    for split in SPLITS:
        source = world_data.open_split(data, workdir, split)
        ends = itertools.accumulate(source.parts)
        for end, count in zip(ends, source.parts, strict=True):
            chosen = range(end - count, end)
            index, _ = next(readable(source, lambda record: record, data.max_corrupt, chosen))
            try:
                sample(source[index], None)
            except CorruptRecordError as error:
                raise UserError(f"{source.where(index)}: {error}") from error


def stack(samples: Any) -> dict[str, Any]:
    """Samples to a batch, with their number as `index`."""
    samples = list(samples)
    batch = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    return batch | {"index": np.arange(len(samples), dtype=np.uint32)}


def on_device(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of NumPy arrays as JAX arrays."""
    return {name: jnp.asarray(value) for name, value in batch.items()}


def shown(batch: dict[str, Any]) -> dict[str, Any]:
    """The samples of a held-out batch that pictures show."""
    return {name: value[:SHOWN] for name, value in batch.items()}
