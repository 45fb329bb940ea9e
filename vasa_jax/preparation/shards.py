"""From the parts of videos to shards in `train/` and `validation/`, as training reads them.

Who is held out is a function of names alone: a unit (a person's folder, or a video) is for validation where the hash of
its name says so. Where that leaves one of the two without any, the unit nearest to the border changes sides; where
there is one unit only, its last clips are held out, which measures how the same person goes on and nothing else.

Shards hold clips in the order of their videos' names, so they do not depend on who prepared what when. They are planned
first and written one after the other; parts that lie in shards are removed on the way, so the disk holds one shard
more than the clips need. After an interruption the plan goes on with the first shard that is missing. Videos that are
prepared later go into further shards.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from vasa_jax.data import Record, write_shard
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import read_json, write_text
from vasa_jax.preparation.manifest import DONE, Manifest
from vasa_jax.preparation.sources import Video
from vasa_jax.preparation.worker import folder_of

TRAIN, VALIDATION = "train", "validation"


class Finished(NamedTuple):
    """A video with clips.

    source: its name. key: its key. sizes: bytes of each clip.
    """

    source: str
    key: str
    sizes: Sequence[int]


class Piece(NamedTuple):
    """`count` clips of a video's part, from number `first` on."""

    key: str
    first: int
    count: int


def pack(manifest: Manifest, people: str, held_out: float, most_bytes: int) -> Iterator[str]:
    """Put all parts into shards.

    Args:
        manifest: of the folder.
        people: one of `worker.PEOPLE`; with "folder" a person is on one side.
        held_out: share of the units for validation.
        most_bytes: of a shard, as far as one clip is no larger.

    Yields:
        Lines for the user.

    Raises:
        UserError: the system refuses, or shards and parts are both gone.
    """
    written = manifest.records / "shards.json"
    plan = read_json(written) if written.is_file() else {"units": {}, "shards": []}
    packed = {key for shard in plan["shards"] for key, _, _ in shard["pieces"]}
    fresh = [video for video in _finished(manifest) if video.key not in packed]
    if fresh:
        units: dict[str, list[Finished]] = {}
        for video in fresh:
            units.setdefault(unit_of(video.source, people), []).append(video)
        sides = divide(units, plan["units"], held_out)
        plan["units"] |= sides
        counts = {TRAIN: 0, VALIDATION: 0}
        for shard in plan["shards"]:
            counts[shard["name"].partition("/")[0]] += 1
        for side, shards in _plan(units, plan["units"], held_out, most_bytes).items():
            for pieces in shards:
                name = f"{side}/{counts[side]:05d}.array_record"
                plan["shards"].append({"name": name, "pieces": [list(piece) for piece in pieces]})
                counts[side] += 1
        write_text(written, json.dumps(plan) + "\n")
    _write(manifest, plan["shards"])
    clips = sum(count for shard in plan["shards"] for _, _, count in shard["pieces"])
    if len(plan["units"]) == 1 and clips > 1:
        yield (
            "all clips are of one "
            + ("person" if people == "folder" else "video")
            + ": its last ones are held out, so validation says nothing about other people; prepare more to learn that"
        )
    if clips == 1:
        yield "there is one clip alone, and training needs one to hold out too: prepare more videos into this folder"


def unit_of(source: str, people: str) -> str:
    """What is held out as a whole: the person's folder where people are folders, else the video."""
    person = folder_of(source) if people == "folder" else ""
    return f"{person}/" if person else source


def divide(units: Iterable[str], known: dict[str, str], held_out: float) -> dict[str, str]:
    """Units to sides; those in `known` stay where they are.

    Returns:
        Every unit, and its side; one unit alone, with none known, is for training.
    """
    ranks = {unit: _rank(unit) for unit in units}
    sides = {unit: known.get(unit) or (VALIDATION if rank < held_out else TRAIN) for unit, rank in ranks.items()}
    free = sorted((ranks[unit], unit) for unit in sides if unit not in known)
    there = set(sides.values()) | set(known.values())
    several = len(sides.keys() | known.keys()) > 1
    if free and VALIDATION not in there and several:
        sides[free[0][1]] = VALIDATION
    elif free and TRAIN not in there:
        sides[free[-1][1]] = TRAIN
    return sides


def _rank(unit: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(f"side {unit}".encode()).digest()[:8], "big") / 2**64


def _finished(manifest: Manifest) -> list[Finished]:
    """Videos with clips, in the order of their names."""
    found = []
    for entry in manifest.entries():
        if entry.get("state") == DONE and entry.get("clips"):
            key = Video(entry["source"], "", 0).key
            found.append(Finished(entry["source"], key, [clip["bytes"] for clip in entry["clips"]]))
    return sorted(found)


def _plan(
    units: dict[str, list[Finished]], sides: dict[str, str], held_out: float, most_bytes: int
) -> dict[str, list[list[Piece]]]:
    """Side to shards, each a list of pieces."""
    clips: dict[str, list[tuple[str, int, int]]] = {TRAIN: [], VALIDATION: []}
    alone = len(sides) == 1
    total = sum(len(video.sizes) for videos in units.values() for video in videos)
    last = max(1, math.ceil(total * held_out)) if alone and total > 1 else 0
    at = 0
    for unit in sorted(units):
        for video in units[unit]:
            for number, size in enumerate(video.sizes):
                held = alone and at >= total - last
                clips[VALIDATION if held else sides[unit]].append((video.key, number, size))
                at += 1
    return {side: list(_shards(listed, most_bytes)) for side, listed in clips.items()}


def _shards(clips: Iterable[tuple[str, int, int]], most_bytes: int) -> Iterator[list[Piece]]:
    """Clips (key, number, bytes) in runs of at most `most_bytes`, as pieces."""
    pieces: list[Piece] = []
    held = 0
    for key, number, size in clips:
        if pieces and held + size > most_bytes:
            yield pieces
            pieces, held = [], 0
        if pieces and pieces[-1].key == key:
            pieces[-1] = pieces[-1]._replace(count=pieces[-1].count + 1)
        else:
            pieces.append(Piece(key, number, 1))
        held += size
    if pieces:
        yield pieces


def _write(manifest: Manifest, shards: Sequence[dict[str, Any]]) -> None:
    """Write the shards that are missing, and remove parts that are in shards."""
    last = {key: number for number, shard in enumerate(shards) for key, _, _ in shard["pieces"]}
    for number, shard in enumerate(shards):
        path = manifest.records / shard["name"]
        pieces = [Piece(*piece) for piece in shard["pieces"]]
        if not path.is_file():
            for piece in pieces:
                if not manifest.part(piece.key).is_file():
                    raise UserError(
                        f"{path} is gone, and so are the parts it was made of; bring it back, or prepare the videos "
                        "into another folder"
                    )
            with refusals("make", path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_shard(path, (record for piece in pieces for record in _read(manifest.part(piece.key), piece)))
        for piece in pieces:
            if last[piece.key] == number:
                with refusals("remove", manifest.part(piece.key)):
                    manifest.part(piece.key).unlink(missing_ok=True)
    for folder in [*sorted((manifest.records / "parts").glob("??")), manifest.records / "parts"]:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _read(part: Path, piece: Piece) -> Iterator[Record]:
    """The records of a piece, one after the other."""
    with refusals("read", part), part.open("rb") as file:
        for number in range(piece.first + piece.count):
            length = int.from_bytes(file.read(8), "little")
            if number < piece.first:
                file.seek(length, 1)
                continue
            head, parts, identity, source = msgpack.unpackb(file.read(length))
            yield Record(head, tuple(parts), identity, source)
