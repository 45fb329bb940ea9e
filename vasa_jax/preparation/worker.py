"""One video of a job, from the file to its part and its entry in the manifest; what every worker does.

Whatever is wrong with a video costs that video alone, and its entry says why. What is wrong with the machine (a full
disk, a file system that a node does not see, a missing model) says nothing about the video and stops the job.
"""

import base64
import hashlib
import io
import os
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from PIL import Image

from vasa_jax.data import write_clip
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import whole_file
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.manifest import DONE, FAILED, Manifest
from vasa_jax.preparation.numbers import Numbers
from vasa_jax.preparation.results import PreparedClip
from vasa_jax.preparation.sources import Video

REFUSED = "refused"
"""The reason of a clip that was kept and whose labels or sound a record refuses."""
BROKEN, RUNNING = "broken", "running"
"""Beside `DONE` and `FAILED`: the machine is in the way, and the video is still to do; it is under way."""
PEOPLE = ("track", "folder")
"""What a person is: a face in one video, or the first folder of its name, in all videos there."""
_PICTURES = 3
"""Pictures of a video's kept clips that the report may show; of dropped ones it is one a reason."""
_PICTURE_SIDE = 128
_TOLD_EVERY = 1.0
"""Seconds at least between two words about a video under way."""


class Outcome(NamedTuple):
    """What became of a video, or what has so far.

    video: it. state: `DONE`, `FAILED`, `BROKEN` or `RUNNING`. error: why not, in one line. clips: kept. frames: of
    these clips. dropped: reason to number of candidates. seconds: of work.
    """

    video: Video
    state: str
    error: str = ""
    clips: int = 0
    frames: int = 0
    dropped: dict[str, int] = {}  # noqa: RUF012 (never written to)
    seconds: float = 0.0


class Work(NamedTuple):
    """What a worker needs to know; it travels to other processes and machines.

    records: the folder. config: thresholds. people: one of `PEOPLE`. candidates: (path, source, config, helpers) to
    clips and dropped candidates, as `video.prepare_video`. helpers: config to what `candidates` takes, opened once a
    worker, as `video.open_helpers`.
    """

    records: str
    config: PreparationConfig
    people: str
    candidates: Callable[[Path, str, PreparationConfig, Any], Iterator[Any]]
    helpers: Callable[[PreparationConfig], AbstractContextManager[Any]]


class _UnusableError(Exception):
    """Wraps what a video raised, to tell it from what writing raises."""


def _nobody(outcome: Outcome) -> None:
    """Hear nothing."""


@contextmanager
def opened(work: Work, tell: Callable[[Outcome], None] = _nobody) -> Iterator[Callable[[Video], Outcome]]:
    """Open what a worker needs.

    Args:
        work: what to do.
        tell: hears now and then how far a video is.

    Yields:
        The function that prepares a video; it raises nothing.

    Raises:
        UserError: as `work.helpers`.
    """
    with work.helpers(work.config) as helpers:
        yield lambda video: _prepare(work, helpers, video, tell)


def note_failure(work: Work, video: Video, error: str, trace: str = "", seconds: float = 0.0) -> Outcome:
    """Write the entry of a video that cannot be used."""
    entry = {"source": video.source, "state": FAILED, "bytes": video.size, "error": error, "seconds": seconds}
    Manifest(work.records).write(video.key, entry | ({"traceback": trace} if trace else {}))
    return Outcome(video, FAILED, error, seconds=seconds)


def _prepare(work: Work, helpers: Any, video: Video, tell: Callable[[Outcome], None]) -> Outcome:
    begun = time.perf_counter()
    try:
        _check_seen(work, video)
        try:
            return _keep(work, helpers, video, tell)
        except _UnusableError as wrapper:
            error = wrapper.__cause__
            assert error is not None
            seconds = time.perf_counter() - begun
            if isinstance(error, UserError | OSError):
                return note_failure(work, video, reason(error), seconds=seconds)
            what = f"{type(error).__name__}: {reason(error)}"
            return note_failure(work, video, what, "".join(traceback.format_exception(error)), seconds)
    except UserError as error:
        return Outcome(video, BROKEN, reason(error))


def _check_seen(work: Work, video: Video) -> None:
    """Refuse to work where the folder of records, or the videos, are not those of the command."""
    if not (Path(work.records) / "preparation.json").is_file():
        raise UserError(f"{_node()} does not see {work.records}; name a folder that every node sees")
    folder = Path(video.path).parent
    if not os.path.exists(video.path) and not (folder.is_dir() and any(folder.iterdir())):  # one lost file is its own
        raise UserError(f"{_node()} does not see {folder}; it was moved, or name a folder that every node sees")


def _node() -> str:
    return f"the machine {os.uname().nodename}"


def _keep(work: Work, helpers: Any, video: Video, tell: Callable[[Outcome], None]) -> Outcome:
    """Write the part of a video's clips, if it has any, and its entry."""
    begun = told = time.perf_counter()
    manifest = Manifest(work.records)
    part = manifest.part(video.key)
    numbers, dropped, unused = Numbers(), Counter[str](), defaultdict[str, float](float)
    clips: list[dict[str, Any]] = []
    pictures: list[list[str]] = []
    remarks: list[str] = []
    with refusals("make", part.parent):
        part.parent.mkdir(parents=True, exist_ok=True)

    def drop(why: str, start: float, end: float, picture: bytes | None) -> None:
        dropped[why] += 1
        unused[why] += max(0.0, end - start)
        if picture and dropped[why] == 1:
            pictures.append([why, _base64(picture)])

    with whole_file(part) as hidden, hidden.open("wb") as file:
        for item in _candidates(work, helpers, video):
            if (now := time.perf_counter()) > told + _TOLD_EVERY:
                told, frames = now, sum(clip["frames"] for clip in clips)
                tell(Outcome(video, RUNNING, "", len(clips), frames, dict(dropped), now - begun))
            if not isinstance(item, PreparedClip):
                drop(item.reason, item.start, item.end, item.picture)
                continue
            labels = dict(item.labels)
            about = {
                name: value.item() if isinstance(value, np.generic) else value for name, value in item.about.items()
            }
            if work.people == "folder" and (person := folder_of(video.source)):
                labels["identity"], about["person"] = number_of(f"folder {person}"), person
            picture = _small(item.frames[len(item.frames) // 2])
            try:
                record = write_clip(item.frames, item.audio, labels, about)
            except UserError as error:
                remarks.append(reason(error))
                drop(REFUSED, float(about.get("start", 0)), float(about.get("end", 0)), picture)
                continue
            packed = msgpack.Packer().pack(record)
            file.write(len(packed).to_bytes(8, "little"))
            file.write(packed)
            numbers.add(len(item.frames), labels, about)
            clips.append({"frames": len(item.frames), "bytes": len(packed), "about": about})
            if sum(kind == "" for kind, _ in pictures) < _PICTURES:
                pictures.append(["", _base64(picture)])
    if not clips:
        with refusals("remove", part):
            part.unlink()
    frames, seconds = sum(clip["frames"] for clip in clips), time.perf_counter() - begun
    entry = {"source": video.source, "state": DONE, "bytes": video.size, "seconds": round(seconds, 3)}
    entry |= {"clips": clips, "dropped": dict(dropped), "dropped_seconds": {k: round(v, 2) for k, v in unused.items()}}
    entry |= {"numbers": numbers.as_json(), "pictures": pictures}
    manifest.write(video.key, entry | ({"refused": remarks[:_PICTURES]} if remarks else {}))
    return Outcome(video, DONE, "", len(clips), frames, dict(dropped), seconds)


def _candidates(work: Work, helpers: Any, video: Video) -> Iterator[Any]:
    """What a video gives; anything that it raises comes as _UnusableError, since one bad file never stops a job."""
    try:
        yield from work.candidates(Path(video.path), video.source, work.config, helpers)
    except Exception as error:  # noqa: BLE001 (a bug that a strange file meets, too; its traceback is kept)
        raise _UnusableError from error


def folder_of(source: str) -> str:
    """The first folder of a video's name, "" where it lies in none."""
    return source.partition("/")[0] if "/" in source else ""


def number_of(name: str) -> int:
    """A number of 63 bits that stands for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1


def _small(picture: bytes) -> bytes:
    """A JPEG of at most `_PICTURE_SIDE` pixels."""
    with Image.open(io.BytesIO(picture)) as image:
        image.draft("RGB", (_PICTURE_SIDE, _PICTURE_SIDE))
        image.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def _base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
