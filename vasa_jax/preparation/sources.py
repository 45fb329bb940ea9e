"""The videos of a job: files and folders in, one name each out.

A video's name is its path below the folder that was given, with forward slashes: it holds when the folder moves, names
the video's entry in the manifest, orders the records and is the `source` of every clip.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vasa_jax.errors import UserError, refusals
from vasa_jax.files import check_local

NOT_VIDEOS = frozenset(
    (
        *(".txt", ".md", ".pdf", ".html", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".log", ".py"),
        *(".srt", ".vtt", ".ass", ".sub", ".lrc", ".nfo", ".textgrid"),
        *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".svg"),
        *(".wav", ".mp3", ".m4a", ".flac", ".ogg", ".opus", ".aac"),
        *(".zip", ".tar", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
        *(".npy", ".npz", ".pt", ".pth", ".pkl", ".h5", ".safetensors", ".md5", ".sha256", ".part", ".tmp", ".ini"),
    )
)
"""Endings of what lies beside videos in a folder. Everything else is tried, whatever its name."""


class Video(NamedTuple):
    """A file to prepare.

    source: its name in the job. path: where it lies. size: in bytes.
    """

    source: str
    path: str
    size: int

    @property
    def key(self) -> str:
        """32 hexadecimal digits that stand for the name, for the names of files."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:32]


class Found(NamedTuple):
    """What a search found.

    videos: sorted by name. skipped: endings of files that are no videos by name, with their numbers.
    """

    videos: list[Video]
    skipped: dict[str, int]


def find_videos(places: Sequence[str | Path]) -> Found:
    """Search folders for videos, links followed, hidden files left out; a file that is named itself is taken as it is.

    Raises:
        UserError: for a place that is not there, nothing found, or two videos of one name.
    """
    videos: dict[str, Video] = {}
    skipped: Counter[str] = Counter()
    for place in places:
        root = check_local("VIDEOS", place)
        if not os.path.exists(root):
            raise UserError(f"there is no {root}; name a folder of videos, or files")
        folder = root if root.is_dir() else root.parent
        for path in _walk(root, set()) if root.is_dir() else [root]:
            if root.is_dir() and path.suffix.lower() in NOT_VIDEOS:
                skipped[path.suffix.lower()] += 1
                continue
            source = os.fsencode(path.relative_to(folder)).replace(os.sep.encode(), b"/").decode("utf-8", "replace")
            other = videos.get(source)
            if other and not os.path.samefile(other.path, path):
                raise UserError(f"{other.path} and {path} are both called {source}; name one folder that holds both")
            with refusals("read", path):
                videos[source] = Video(source, os.path.abspath(path), path.stat().st_size)
    if not videos:
        beside = f", only {describe_skipped(skipped)}" if skipped else ""
        raise UserError(f"no videos in {', '.join(map(str, places))}{beside}; name a folder that holds some")
    return Found([videos[source] for source in sorted(videos)], dict(sorted(skipped.items())))


def describe_skipped(skipped: dict[str, int]) -> str:
    """Files that were not tried, in words."""
    count = sum(skipped.values())
    kinds = ", ".join(f"{ending} {number}" for ending, number in skipped.items())
    return f"{count} file{'s' * (count != 1)} of other kinds ({kinds})"


def _walk(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """Files below a folder in a fixed order; a link that leads back to a folder above is not followed."""
    with refusals("read", folder):
        status = folder.stat()
        entries = sorted(folder.iterdir())
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, above | {here})
        elif entry.is_file():
            yield entry
