"""From shards to batches on the device: one global shuffle, and an order that is a pure function of (seed, step).

Position i of the endless stream is a record, by `data.order`, read by `read(record, rng)` with a generator keyed by
(seed, i); every sample carries its position as `index`, from which the step derives all its randomness (design section
2). Global step s takes the positions s b .. (s + 1) b - 1, and process p of P the p-th P-th
of them. So the only state of the data is the number of steps consumed: a run goes on exactly, with any number of
processes and threads.

A record that cannot be read is replaced by the next one in the shuffled order (with the generator of its own
position), so that the order stays a pure function of (seed, step) and of the files. Such records are counted, each
once, and named in a warning; more of them than a limit stop the run.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import grain
import numpy as np

from vasa_jax.data.order import endless
from vasa_jax.data.records import CorruptRecordError
from vasa_jax.errors import UserError

Sample = dict[str, Any]
"""Name to array, without batch axis."""
T = TypeVar("T")
LOGGER = logging.getLogger(__name__)
TRIES = 100
"""Partners of one clip that may be corrupt before the run stops."""


class CorruptRecords:
    """The corrupt records met in a source, each counted once, by any number of threads."""

    def __init__(self, source: Any, limit: int):
        """`source` is what `make_dataset` takes; `limit` is the most corrupt records that are skipped."""
        self._source, self._limit = source, limit
        self._met: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._met)

    def add(self, index: int, error: CorruptRecordError) -> None:
        """Count a record and warn, the first time it is met; raises CorruptRecordError naming it beyond the limit."""
        with self._lock:
            new = index not in self._met
            self._met.add(index)
            count = len(self._met)
        where = getattr(self._source, "where", "record {}".format)
        place = where(index)
        if count > self._limit or count == len(self._source):
            raise CorruptRecordError(
                f"{place}: {error} ({count} of {len(self._source)} records are corrupt, data.max_corrupt="
                f"{self._limit} may be: mend the shards, or raise it)"
            ) from error
        if new:
            LOGGER.warning("skipped %s: %s (%d corrupt so far, at most %d)", place, error, count, self._limit)


class Others(NamedTuple):
    """What a sample has of another record.

    draw: (index of the sample's own record, generator) to the index of another. read: as of `make_dataset`; its names
    are others than those of the sample's own record.
    """

    draw: Callable[[int, np.random.Generator], int]
    read: Callable[[Any, np.random.Generator], Sample]


class Batches:
    """Endless local batches, from some step on: dictionaries of NumPy arrays with a leading batch axis, and `index`
    uint32, the positions in the global stream modulo 2^32."""

    def __init__(self, batches: grain.IterDataset, corrupt: CorruptRecords):
        """Start reading ahead; made by `make_dataset`."""
        self._iterator = iter(batches)
        self._corrupt = corrupt

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Sample:
        return next(self._iterator)

    @property
    def skipped(self) -> int:
        """Corrupt records that this process has met and replaced since its start, each counted once."""
        return len(self._corrupt)

    def close(self) -> None:
        """Stop the reading threads."""
        self._iterator.close()  # pyright: ignore[reportAttributeAccessIssue]


def make_dataset(
    source: Any,
    read: Callable[[Any, np.random.Generator], Sample],
    batch_size: int,
    seed: int,
    first_step: int = 0,
    process: int = 0,
    processes: int = 1,
    threads: int = 2,
    prefetch: int = 4,
    max_corrupt: int = 10,
    weights: Sequence[float] = (1.0,),
    others: Others | None = None,
) -> Batches:
    """Endless batches of a source, in the order of the module's head.

    Args:
        source: anything with a length and random access, such as `open_shards`; with several weights, one with the
            counts of its `parts`, such as `open_folders`.
        read: turns one element into a sample, with all its random choices from the given generator.
        batch_size: samples a step, over all processes.
        seed: decides the shuffle of every epoch and the generators.
        first_step: the global step that the first batch is for; what a resumed run has consumed.
        process: which slice of every batch is read, 0..processes - 1.
        processes: how many processes share a batch.
        threads: reading threads (on two cores they beat processes).
        prefetch: batches read ahead on the host.
        max_corrupt: corrupt records that are skipped before the run stops.
        weights: shares of the stream that the folders of the source get.
        others: what a sample has of another record, if anything.

    Returns:
        An iterator of dictionaries with a leading axis batch_size / processes; `index` uint32 is the global position
        modulo 2^32. Its `next` raises CorruptRecordError naming shard and index beyond `max_corrupt`.

    Raises:
        UserError: for a batch that the processes cannot share evenly, or a process beyond their number.
    """
    if batch_size % processes:
        raise UserError(f"{batch_size=} does not divide over {processes} processes; make it a multiple of that")
    if not 0 <= process < processes:
        raise UserError(f"{process=} must lie between 0 and {processes - 1}, the number of processes less one")
    order = endless([len(source)] if len(weights) == 1 else source.parts, weights, seed)
    corrupt = CorruptRecords(source, max_corrupt)

    def sample(position: int, record: int) -> Sample:
        for following in itertools.count(position + 1):
            try:
                one = read(source[record], np.random.default_rng((seed, position)))
                break
            except CorruptRecordError as error:
                corrupt.add(record, error)
                record = order[following]
        if others:
            rng = np.random.default_rng(np.random.SeedSequence((seed, position), spawn_key=(1,)))
            one |= read_other(source, record, others, rng, corrupt)
        return one | {"index": np.uint32(position % 2**32)}

    local = order.map_with_index(sample).batch(batch_size // processes, drop_remainder=True)
    mine = local[first_step * processes + process :: processes]
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return Batches(mine.to_iter_dataset(options), corrupt)


def read_other(source: Any, record: int, others: Others, rng: np.random.Generator, corrupt: CorruptRecords) -> Sample:
    """What a sample has of another record, drawn again while it is corrupt.

    Args:
        source: as for `make_dataset`.
        record: index of the sample's own record.
        others: how another is drawn and read.
        rng: decides which.
        corrupt: counts those that are.

    Raises:
        CorruptRecordError: beyond the limit of `corrupt`.
        UserError: where `TRIES` draws gave none that can be used.
    """
    for _ in range(TRIES):
        other = others.draw(record, rng)
        try:
            return others.read(source[other], rng)
        except CorruptRecordError as error:
            corrupt.add(other, error)
    raise UserError(f"{TRIES} partners of record {record} could not be used; mend the shards, or pair no clips")


def readable(
    source: Any, read: Callable[[Any], T], max_corrupt: int, chosen: Iterable[int] | None = None
) -> Iterator[tuple[int, T]]:
    """Elements of a source, each once: (index, what `read` makes of it), without those that are corrupt.

    Args:
        source: as for `make_dataset`.
        read: raises CorruptRecordError for what it cannot use.
        max_corrupt: corrupt elements that are skipped.
        chosen: indices in the order wanted; None for all.

    Raises:
        CorruptRecordError: naming the shard and index beyond `max_corrupt`.
    """
    corrupt = CorruptRecords(source, max_corrupt)
    for index in range(len(source)) if chosen is None else chosen:
        try:
            value = read(source[index])
        except CorruptRecordError as error:
            corrupt.add(index, error)
        else:
            yield index, value


class Prefetch:
    """Batches placed on the device ahead of the step that takes them, so that the copy runs while the device works.

    `waited` counts the seconds spent waiting for the host's batches.
    """

    def __init__(self, batches: Any, place: Callable[[Any], Any], depth: int = 2):
        """
        Args:
            batches: an iterator with `close` and `skipped`, such as `make_dataset` gives.
            place: a host batch to the device; should not wait for the copy, as `jax.device_put` does not.
            depth: batches on the device that no step has taken yet, the one being handed out included.
        """
        self._batches, self._place, self._depth = batches, place, depth
        self._placed: deque[Any] = deque()
        self.waited = 0.0

    def __iter__(self) -> "Prefetch":
        return self

    def __next__(self) -> Any:
        while len(self._placed) < self._depth:
            begun = time.perf_counter()
            batch = next(self._batches, None)
            self.waited += time.perf_counter() - begun
            if batch is None:
                break
            self._placed.append(self._place(batch))
        if not self._placed:
            raise StopIteration
        return self._placed.popleft()

    @property
    def skipped(self) -> int:
        """Corrupt records replaced so far, those of batches read ahead included."""
        return self._batches.skipped

    def close(self) -> None:
        """Let go of the placed batches and stop the reading threads."""
        self._placed.clear()
        self._batches.close()
