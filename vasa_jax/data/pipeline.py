"""From shards to batches: one global shuffle, and an order that is a pure function of (seed, position).

Position i of the endless stream is record `shuffle(seed, epoch)[i mod n]`, read by `sample(data, rng)` with a
generator keyed by (seed, i); every sample carries its position as `index`, from which the step derives all its
randomness (design section 2). The iterator's state is the number of batches consumed, so a saved position resumes
exactly, however many threads read ahead.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import numpy as np

Sample = dict[str, Any]
"""Name to array, without batch axis."""


def find_shards(folder: str | Path) -> list[str]:
    """The ArrayRecord shards of a folder, sorted; raises ValueError where there are none."""
    shards = sorted(str(path) for path in Path(folder).glob("*.array_record"))
    if not shards:
        raise ValueError(
            f"{str(folder)!r} holds no *.array_record shards; write some with vasa_jax.data.records.write_shard"
        )
    return shards


def make_dataset(
    source: Any,
    read: Callable[[Any, np.random.Generator], Sample],
    batch_size: int,
    seed: int,
    threads: int = 2,
    prefetch: int = 4,
) -> grain.IterDataset:
    """Endless batches of a source.

    Args:
        source: anything with a length and random access, such as `open_shards`.
        read: turns one element into a sample, with all its random choices from the given generator.
        batch_size: samples a batch.
        seed: decides the shuffle of every epoch and the generators.
        threads: reading threads (on two cores they beat processes).
        prefetch: batches read ahead.

    Returns:
        A Grain dataset of dictionaries with a leading batch axis, and `index` uint32 (b,): the position in the stream.
    """

    def sample(index: int, element: Any) -> Sample:
        return read(element, np.random.default_rng((seed, index))) | {"index": np.uint32(index % 2**32)}

    stream = grain.MapDataset.source(source).seed(seed).shuffle().repeat().map_with_index(sample)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return stream.batch(batch_size, drop_remainder=True).to_iter_dataset(options)


def open_shards(folder: str | Path) -> Any:
    """The records of all shards of a folder as one sequence of bytes; raises ValueError where there are none."""
    return grain.sources.ArrayRecordDataSource(find_shards(folder))
