"""Shards of clips as one sequence, of which a clip's head and parts are read when they are asked for.

Opening reads the index that ends each shard (`data.records`) and nothing else: where the clips begin, who they show and
which recording they are of. A few shards are open at a time, so that neither descriptors nor memory grow with their
number; to open one takes under a millisecond.
"""

import bisect
import contextlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from vasa_jax.data.records import VERSION, CorruptRecordError, StoredClip
from vasa_jax.errors import UserError, reason

SPLITS = ("train", "validation")
"""Folders of shards."""
OPEN = 128
"""Shards that are open at a time."""
OPENERS = 16
"""Threads that read indices."""
VERSION_1 = b"\x84\xa7version\x01"
"""How records of version 1 begin."""


class Index(NamedTuple):
    """The clips of a shard.

    path: of the shard. first: record number of each head, and of the index itself as the last. identity: label or None.
    source: recording or "".
    """

    path: str
    first: np.ndarray
    identity: list[int | None]
    source: list[str]


def find_shards(folder: str | Path) -> list[str]:
    """The ArrayRecord shards of a folder, sorted; raises UserError where there are none."""
    shards = sorted(str(path) for path in Path(folder).glob("*.array_record"))
    if not shards:
        raise UserError(
            f"{str(folder)!r} holds no *.array_record shards; write some with vasa_jax.data.records.write_shard"
        )
    return shards


def open_reader(path: str) -> Any:
    """An ArrayRecord file to read at random; raises UserError for what is none."""
    try:
        reader = ArrayRecordReader(path, options="readahead_buffer_size:0", file_reader_buffer_size=32768)
        if not reader.ok():
            reader.close()  # says what is amiss
        return reader
    except RuntimeError as error:
        raise UserError(
            f"{path} is no readable ArrayRecord file: {reason(error)}; remove it or write it again"
        ) from error


def read_index(path: str) -> Index:
    """The index of a shard.

    Raises:
        UserError: naming a file that is no ArrayRecord file, holds clips of version 1, or has no index.
    """
    reader = open_reader(path)
    last = reader.num_records() - 1
    try:
        found = reader.read([last])[0] if last >= 0 else b""
        if found.startswith(VERSION_1) or not found:
            folder = Path(path).parent
            folder = folder.parent if folder.name in SPLITS else folder
            raise UserError(
                f"{path} holds records of version 1, and this is version {VERSION}; write them anew with "
                f"python -m vasa_jax.data upgrade {folder} NEW"
            )
        index = msgpack.unpackb(found)
        if index["index"] != VERSION:
            raise ValueError(f"it is of version {index['index']!r}, and this is version {VERSION}")
        first = np.asarray([*index["first"], last], np.int64)
        if (np.diff(first) < 1).any() or first[0] != 0:
            raise ValueError("its clips are out of order")
        if not len(index["identity"]) == len(index["source"]) == len(first) - 1:
            raise ValueError("its lists are not equally long")
        if not all(one is None or (type(one) is int and -(2**63) <= one < 2**63) for one in index["identity"]):
            raise ValueError("an identity is no integer")
        if not all(isinstance(one, str) for one in index["source"]):
            raise ValueError("a source is no text")
        return Index(path, first, list(index["identity"]), list(index["source"]))
    except UserError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, OverflowError, msgpack.UnpackException) as error:
        raise UserError(f"{path} has no index that can be read: {reason(error)}; write the shard again") from error
    finally:
        with contextlib.suppress(RuntimeError):
            reader.close()


class Shards:
    """The clips of some shards as one sequence, which knows where each of them stands.

    parts: how many clips each folder of them has, in order.
    """

    def __init__(self, paths: Sequence[str], count: int | None = None):
        """Read the indices of files, of whose clips the first `count` are meant, all by default; raises UserError
        naming one that cannot be read."""
        with ThreadPoolExecutor(min(OPENERS, max(1, len(paths)))) as threads:
            self._indices = list(threads.map(read_index, paths))
        self._ends = list(itertools.accumulate(len(index.source) for index in self._indices))
        self._count = self._ends[-1] if count is None else min(count, self._ends[-1])
        self.parts: tuple[int, ...] = (self._count,)
        self._start()

    def _start(self) -> None:
        self._readers: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_readers", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> StoredClip:
        """A clip, of which the head is read; raises CorruptRecordError where it is damaged there."""
        shard, clip = self._place(index)
        first, following = (int(number) for number in self._indices[shard].first[clip : clip + 2])

        def part(number: int) -> bytes:
            if first + 1 + number >= following:
                raise CorruptRecordError(f"a clip of {following - first - 1} parts has no part {number}")
            return self._read(shard, first + 1 + number)

        return StoredClip(self._read(shard, first), part)

    def counts(self, shards: Sequence[int]) -> tuple[int, ...]:
        """How many clips runs of so many shards have, one run after the other."""
        ends = [0, *(self._ends[number - 1] for number in itertools.accumulate(shards))]
        return tuple(end - begin for begin, end in itertools.pairwise(ends))

    def ranges(self) -> list[range]:
        """The indices of each folder."""
        first = itertools.accumulate((0, *self.parts[:-1]))
        return [range(at, at + count) for at, count in zip(first, self.parts, strict=True)]

    def in_turn(self) -> list[int]:
        """All indices: the first clip of each folder, the second of each, and so on."""
        turns = itertools.zip_longest(*self.ranges())
        return [index for turn in turns for index in turn if index is not None]

    def where(self, index: int) -> str:
        """The shard's file and the clip's number in it, in words."""
        shard, clip = self._place(index)
        return f"{self._indices[shard].path}, clip {clip}"

    def people(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Who the clips show, each array of one entry a clip.

        Returns:
            (known, identity, source): whether the clip has a label of identity, bool; the label, int64, 0 where it has
            none; the number of its recording, int64, its own where it says none.
        """
        identities: Iterable[int | None] = itertools.chain.from_iterable(index.identity for index in self._indices)
        sources = itertools.chain.from_iterable(index.source for index in self._indices)
        numbers: dict[str | int, int] = {}
        pairs = list(itertools.islice(zip(identities, sources, strict=True), self._count))
        known = np.asarray([identity is not None for identity, _ in pairs], bool)
        identity = np.asarray([identity or 0 for identity, _ in pairs], np.int64)
        named = (source or place for place, (_, source) in enumerate(pairs))
        return known, identity, np.asarray([numbers.setdefault(name, len(numbers)) for name in named], np.int64)

    def _place(self, index: int) -> tuple[int, int]:
        """Numbers of the shard and of the clip in it."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        shard = bisect.bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def _read(self, shard: int, number: int) -> bytes:
        with self._lock:
            reader = self._readers.pop(shard, None)
            try:
                reader = open_reader(self._indices[shard].path) if reader is None else reader
            except UserError as error:
                raise CorruptRecordError(str(error)) from error
            self._readers[shard] = reader
            if len(self._readers) > OPEN:
                self._readers.popitem(last=False)  # another thread that reads from it keeps it
        try:
            return reader.read([number])[0]
        except (RuntimeError, IndexError) as error:
            raise CorruptRecordError(reason(error)) from error


def open_shards(folder: str | Path, count: int | None = None) -> Shards:
    """The clips of all shards of a folder as one sequence, or the first `count` of them; raises UserError where there
    are none, or where a file cannot be read."""
    shards = Shards(find_shards(folder), count)
    _check_clips(folder, len(shards))
    return shards


def open_folders(folders: Sequence[str | Path]) -> Shards:
    """The clips of some folders, one after the other; raises UserError as `open_shards` does."""
    listed = [find_shards(folder) for folder in folders]
    shards = Shards([path for paths in listed for path in paths])
    shards.parts = shards.counts([len(paths) for paths in listed])
    for folder, count in zip(folders, shards.parts, strict=True):
        _check_clips(folder, count)
    return shards


def _check_clips(folder: str | Path, count: int) -> None:
    if not count:
        raise UserError(f"the shards in {str(folder)!r} hold no clips; write some with vasa_jax.data.write_shard")
