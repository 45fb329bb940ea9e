"""What the tasks do with clips: batches to train on, held-out samples, and a look at the first before anything is
compiled."""

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
from vasa_jax.training.config import Experiment, Records, World

SHOWN = 8
"""Held-out samples that pictures show."""


def compute_dtype(experiment: Experiment) -> str:
    """The dtype that `experiment.dtype` means on the devices at hand."""
    if experiment.dtype != "auto":
        return experiment.dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def nobody(source: Shards) -> None:
    """Samples that have nothing of another clip."""
    del source


def training_batches(
    data: World | Records,
    sample: Callable[[StoredClip, np.random.Generator], Sample],
    workdir: Path,
    batch_size: int,
    seed: int,
    first_step: int,
    process: int,
    processes: int,
    pair: Callable[[Shards], Others | None] = nobody,
) -> Batches:
    """Training batches of a run, see `make_dataset`; `pair` says what a sample has of another clip."""
    source = world_data.open_split(data, workdir, "train")
    order = (batch_size, seed, first_step, process, processes)
    reading = (data.threads, data.prefetch, data.max_corrupt)
    return make_dataset(source, sample, *order, *reading, world_data.weights(data), pair(source))


def held_out_batch(
    data: World | Records,
    workdir: Path,
    sample: Callable[[StoredClip, Any], Sample],
    pair: Callable[[Shards], Others | None] = nobody,
) -> dict[str, Any]:
    """One batch of the first readable validation clips of all folders in turn, at most `data.validation_clips`, each
    sampled without a generator, and their numbers as `index`."""
    source = world_data.open_split(data, workdir, "validation")
    others, corrupt = pair(source), CorruptRecords(source, data.max_corrupt)
    found = []
    for index, value in readable(source, lambda record: sample(record, None), data.max_corrupt, source.in_turn()):
        other = read_other(source, index, others, np.random.default_rng(index), corrupt) if others else {}
        found.append(value | other)
        if len(found) == data.validation_clips:
            break
    batch = {name: np.stack([row[name] for row in found]) for name in found[0]}
    return batch | {"index": np.arange(len(found), dtype=np.uint32)}


def check_first(data: World | Records, workdir: Path, sample: Callable[[StoredClip, Any], Sample]) -> None:
    """Make a sample of the first readable clip of each folder and split, before anything is compiled.

    Raises:
        UserError: naming the shard and clip, and what is wrong with it.
    """
    for split in SPLITS:
        source = world_data.open_split(data, workdir, split)
        for chosen in source.ranges():
            index, _ = next(readable(source, lambda record: record, data.max_corrupt, chosen))
            try:
                sample(source[index], None)
            except CorruptRecordError as error:
                raise UserError(f"{source.where(index)}: {error}") from error


def on_device(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of NumPy arrays as JAX arrays."""
    return {name: jnp.asarray(value) for name, value in batch.items()}


def shown(batch: dict[str, Any]) -> dict[str, Any]:
    """The samples of a held-out batch that pictures show."""
    return {name: value[:SHOWN] for name, value in batch.items()}
