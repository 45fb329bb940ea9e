"""Folders of records of version 1, written anew as this version: `python -m vasa_jax.data upgrade OLD NEW`.

A clip of version 1 is one MessagePack map of `version` (1), `frames` (a list of JPEG pictures), `audio` and `labels`,
arrays as in `data.records`, and a shard is such maps and nothing else. Pictures move over as they are. A portrait,
which was an array, becomes a JPEG in `validation/` and is left out elsewhere, since sample videos alone read it.

NEW gets one shard for each of OLD, of the same name, and the notes that lie beside them; `done.json`, which says that a
folder is complete, comes last. A shard appears under its name only when complete: the same command goes on after an
interruption.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
from tqdm import tqdm

from vasa_jax.data.pipeline import readable
from vasa_jax.data.records import CorruptRecordError, Record, unpack_array, write_clip, write_shard
from vasa_jax.data.shards import SPLITS, VERSION_1, find_shards, open_reader
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import check_apart, check_folder, check_local, remove_unfinished, whole_file, write_text

NOTES = ("recipe.json", "encoded.json", "done.json")
"""What lies beside the shards, in the order in which it moves over."""
MARK = "upgraded.json"
"""Says that a folder is the work of this command, which may go on with it."""


class _Maps:
    """The records of a shard of version 1, as bytes."""

    def __init__(self, path: str):
        self._path, self._reader = path, open_reader(path)

    def __len__(self) -> int:
        return self._reader.num_records()

    def __getitem__(self, index: int) -> bytes:
        try:
            return self._reader.read([index])[0]
        except RuntimeError as error:
            raise CorruptRecordError(reason(error)) from error

    def where(self, index: int) -> str:
        """The shard's file and the record's number in it, in words."""
        return f"{self._path}, record {index}"


def upgrade(old: str | Path, new: str | Path, max_corrupt: int = 10) -> dict[str, int]:
    """Write all shards of a folder of version 1 anew that NEW does not have yet.

    Args:
        old: folder with `train/` and `validation/`, or one of them, or with shards.
        new: another folder, which gets the same layout; made where it is missing.
        max_corrupt: corrupt records of a shard that are left out.

    Returns:
        Folder inside NEW ("" for itself) to the number of shards that it has now.

    Raises:
        UserError: for a folder without shards, shards of another version, or a NEW that is OLD or holds something else;
            CorruptRecordError beyond `max_corrupt`.
    """
    old, new = check_local("the folder", old), check_folder(new)
    check_apart({"NEW": new}, {"OLD": old})
    if max_corrupt < 0:
        raise UserError(f"{max_corrupt=} must be 0 or more")
    with refusals("read", new):
        names = sorted(path.name for path in new.iterdir()) if new.is_dir() else []
    if names and MARK not in names:
        raise UserError(f"{new} holds {names[0]} and nothing upgraded; name an empty folder or one to go on with")
    folders = [split for split in SPLITS if (old / split).is_dir()]
    shards = {folder: find_shards(old / folder) for folder in folders or [""]}
    for path in (path for paths in shards.values() for path in paths):
        _check_version(path)
    with refusals("make", new):
        new.mkdir(parents=True, exist_ok=True)
    write_text(new / MARK, '{"from_version": 1}\n')
    for folder, paths in shards.items():
        with refusals("make", new / folder):
            (new / folder).mkdir(parents=True, exist_ok=True)
        remove_unfinished(new / folder)
        for path in tqdm(paths, unit="shard", desc=folder or "shards", mininterval=1.0):
            target = new / folder / Path(path).name
            if not target.exists():
                write_shard(target, _records(path, max_corrupt, folder != "train"))
    for note in (old / name for name in NOTES if (old / name).is_file()):
        with refusals("copy", note), whole_file(new / note.name) as hidden:
            shutil.copyfile(note, hidden)
    return {folder: len(paths) for folder, paths in shards.items()}


def _check_version(path: str) -> None:
    maps = _Maps(path)
    for index in range(len(maps)):  # the first that can be read tells
        try:
            begins = maps[index].startswith(VERSION_1)
        except CorruptRecordError:
            continue
        if begins:
            return
    if len(maps):
        raise UserError(f"{path} holds no records of version 1; train on it as it is, or write it again")


def _records(path: str, max_corrupt: int, portraits: bool) -> Iterator[Record]:
    """The clips of a shard, written anew."""
    return (record for _, record in readable(_Maps(path), lambda data: _anew(data, portraits), max_corrupt))


def _anew(data: bytes, portraits: bool) -> Record:
    """A clip of version 1 as this version's; raises CorruptRecordError for bytes that are none."""
    try:
        fields: Any = msgpack.unpackb(data)
        if not isinstance(fields, dict) or fields.get("version") != 1:
            raise ValueError("it is not of version 1")
        labels = {
            name: [tuple(phoneme) for phoneme in value] if name == "phonemes" else unpack_array(value)
            for name, value in fields["labels"].items()
            if portraits or name != "portrait"
        }
        audio = None if fields["audio"] is None else unpack_array(fields["audio"])
        return write_clip([bytes(frame) for frame in fields["frames"]], audio, labels)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, msgpack.UnpackException) as error:
        raise CorruptRecordError(f"{len(data)} bytes are no clip of version 1: {reason(error)}") from error
