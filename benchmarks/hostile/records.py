"""Records: shards of both versions whose maps, pictures, sound and indices are not what they say."""

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from benchmarks.hostile.case import Box, Case, damaged, door, number, pick
from benchmarks.hostile.pictures import encoded, png
from vasa_jax.data.__main__ import main
from vasa_jax.data.pipeline import readable
from vasa_jax.data.records import VERSION, pack_array, read_clip
from vasa_jax.data.shards import open_shards


def twisted(rng: np.random.Generator, value: Any) -> Any:
    """A value of MessagePack with one part replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = pick(rng, tuple(value))
        if rng.random() < 0.1:
            return {key: part for key, part in value.items() if key != name}
        return value | {name: twisted(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(len(value)))
        return [*value[:at], twisted(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, bytes) and value and rng.random() < 0.7:
        return damaged(rng, value)[0]
    odd: tuple[Any, ...] = (
        None,
        True,
        -1,
        0,
        1,
        2**31,
        2**62,
        2**64 - 1,
        0.5,
        np.inf,
        np.nan,
        "",
        "x",
        "O",
        "V8",
        "U99999999",
    )
    odd += (
        [],
        [1, 2],
        [2**40, 2**40],
        [-1],
        {},
        {"a": 1},
        b"",
        b"\xff" * 9,
        "float64",
        "S1000000000",
        "datetime64[s]",
        {1: 2},
    )
    return pick(rng, (*odd, number(rng) % 2**64))


def head(rng: np.random.Generator) -> tuple[dict[str, Any], list[bytes]]:
    """A clip of this version: its map and its parts."""
    frames = int(rng.integers(0, 3))
    sound = rng.uniform(-0.1, 0.1, 640 * frames or 640).astype("<f4")
    labels = {"pose": pack_array(np.zeros((frames, 6), np.float32)), "phonemes": [["AA", 0.0, 0.1]]} if frames else {}
    fields = {
        "version": VERSION,
        "frames": frames,
        "size": [40, 48] if frames else None,
        "sound": len(sound),
        "features": [frames, 4] if frames else None,
        "portrait": True,
        "labels": labels,
        "about": {"source": "a", "start": 0.5},
    }
    features = [np.zeros((frames, 4), "<f2").tobytes()] if frames else []
    picture = pick(
        rng, (encoded("jpeg", "RGB"), encoded("jpeg", "RGB"), encoded("png", "RGB"), b"", png(20_000, 20_000))
    )
    return fields, [picture] * frames + [sound.tobytes()] + features + [picture]


def old(rng: np.random.Generator) -> dict[str, Any]:
    """A clip of version 1."""
    fields, parts = head(rng)
    frames = fields["frames"]
    return {
        "version": 1,
        "frames": parts[:frames],
        "audio": pack_array(np.frombuffer(parts[frames], "<f4")),
        "labels": fields["labels"],
    }


def packed(rng: np.random.Generator, fields: Any) -> bytes:
    """A map as bytes, mostly with parts replaced or damage."""
    for _ in range(int(rng.integers(0, 4))):
        fields = twisted(rng, fields)
    data = bytes(msgpack.Packer().pack(fields))
    odd = (
        b"",
        b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xd6\xff\0\0\0\0",
        b"\x84\xa7version\x01",
    )
    if rng.random() < 0.1:
        return pick(rng, odd)
    return damaged(rng, data)[0] if rng.random() < 0.2 else data


def case(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A folder of shards to be read, or to be upgraded."""
    del seeds
    upgrade = rng.random() < 0.5
    records: list[bytes] = []
    if upgrade:
        records += [packed(rng, old(rng)) for _ in range(int(rng.integers(1, 4)))]
        records[0] = records[0] if rng.random() < 0.5 else bytes(msgpack.Packer().pack(old(rng)))
    else:
        index: dict[str, Any] = {"index": VERSION, "first": [], "identity": [], "source": []}
        for _ in range(int(rng.integers(1, 4))):
            fields, parts = head(rng)
            index["first"].append(len(records))
            index["identity"].append(None)
            index["source"].append("")
            records += [packed(rng, fields), *(damaged(rng, part)[0] if rng.random() < 0.2 else part for part in parts)]
        records.append(packed(rng, index) if rng.random() < 0.4 else bytes(msgpack.Packer().pack(index)))
    harm = int(rng.integers(2**32)) if rng.random() < 0.3 else None
    options = pick(rng, ("group_size:1,uncompressed", "group_size:1", "group_size:4"))
    folder = box.input / "old"
    folder.mkdir()
    path = folder / "a.array_record"

    def write() -> None:
        writer = ArrayRecordWriter(str(path), options)
        for record in records:
            writer.write(record)
        writer.close()
        if harm is not None:
            path.write_bytes(damaged(np.random.default_rng(harm), path.read_bytes())[0])

    def read() -> None:
        write()
        shards = open_shards(folder)
        for _, clip in readable(shards, read_clip, 0):
            assert clip.frames.dtype == np.uint8

    def anew() -> int:
        write()
        return main(["upgrade", str(folder), str(box.output / "new"), "--max-corrupt", "0"])

    what = (
        f"{len(records)} records of version {1 if upgrade else 2}{', and the file damaged' if harm is not None else ''}"
    )
    stays = ("in/old/a.array_record", "out/new/upgraded.json")  # the case's own, and what lets an upgrade go on
    return Case(what, anew if upgrade else door("train", read), stays=stays)
