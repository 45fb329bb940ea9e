"""A whole job: videos in, a folder of records out, at any size and in any number of tries.

A video is finished when its entry stands in the manifest; the same command does what has none. So whatever ends a run
(a killed worker or driver, a full disk, Ctrl-C) costs the videos in hand and no other, and the records are the same
whoever did the work: each video is prepared alone, and packed in the order of the names once all are finished.
"""

import dataclasses
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, Literal

from vasa_jax.command import check_stopped
from vasa_jax.errors import UserError
from vasa_jax.files import check_apart, make_folder
from vasa_jax.preparation.cluster import run_on_ray
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.manifest import FAILED, Manifest
from vasa_jax.preparation.pool import run_here
from vasa_jax.preparation.progress import Progress, Tally
from vasa_jax.preparation.report import Totals, write_report
from vasa_jax.preparation.shards import pack
from vasa_jax.preparation.sources import Video, describe_skipped, find_videos
from vasa_jax.preparation.worker import Outcome, Work
from vasa_jax.training.lock import locked


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """How a folder of records is laid out; the same for all runs on it."""

    people: Literal["track", "folder"] = "track"
    """What one person is: `track`, a face in one video, so that nobody is taken for another; or `folder`, the first
    folder below VIDEOS, where it is named after a person (VoxCeleb's layout), so that identities hold across videos."""
    validation: float = 0.05
    """Share of the people (of the videos, where people are tracks) that are held out, by a hash of their names."""
    shard_megabytes: int = 1024
    """Size of a shard; the disk needs room for one more than the clips fill."""

    def __post_init__(self):
        """Refuse nonsense."""
        if not 0 < self.validation < 1:
            raise UserError(f"validation={self.validation} is a share, more than 0 and less than 1")
        if self.shard_megabytes < 1:
            raise UserError(f"shard_megabytes={self.shard_megabytes} must be 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
    """Who does the work; it may differ from run to run."""

    workers: int = 0
    """Videos at once, a core and up to 1.5 GB each; 0 for as many as there are cores."""
    ray: str = ""
    """Address of a Ray cluster ("auto", HOST:PORT), or "local" for one of this machine; all nodes must see VIDEOS and
    RECORDS under the same paths. Empty: processes of this machine, without Ray."""
    retry: bool = False
    """Whether videos that failed before are tried again."""

    def __post_init__(self):
        """Refuse nonsense."""
        if self.workers < 0:
            raise UserError(f"workers={self.workers} must be 0 or more")


def prepare(
    places: Sequence[str | Path],
    records: str | Path,
    config: PreparationConfig,
    folder: Folder,
    effort: Effort,
    candidates: Callable[..., Iterator[Any]] | None = None,
    helpers: Callable[..., Any] | None = None,
) -> Iterator[str]:
    """Prepare all videos that are not finished, pack their clips, and write the report.

    Args:
        places: folders and files of videos.
        records: the folder to write.
        config: what makes a clip.
        folder: how the folder is laid out.
        effort: who does the work.
        candidates, helpers: what gives the clips of a video, and what it needs; by default `video.prepare_video` and
            `video.open_helpers`.

    Yields:
        Lines for the user.

    Raises:
        UserError: for places without videos, a folder that holds something else or was made with other settings,
            another run on it, a machine that refuses, or where no clip at all is kept.
    """
    found = find_videos(places)
    for place in places:
        check_apart({"RECORDS": records}, {"VIDEOS": place})
    manifest = Manifest(records)
    settings = {**dataclasses.asdict(config), **dataclasses.asdict(folder)}
    manifest.check_settings(settings)
    root = make_folder("RECORDS", records)
    with locked(root, "wait for it, or name another folder"):
        manifest.clean()
        manifest.write_settings(settings)
        manifest.write_skipped(found.skipped)
        if effort.retry:
            _forget_failures(manifest)
        finished = manifest.keys()
        todo = [video for video in found.videos if video.key not in finished]
        if found.skipped:
            yield f"left aside {describe_skipped(found.skipped)}"
        if len(todo) < len(found.videos):
            yield f"{len(found.videos) - len(todo)} of {len(found.videos)} videos are finished already"
        files = {name: os.path.abspath(path) for name in ("emotion", "syncnet") if (path := getattr(config, name))}
        here = dataclasses.replace(config, **files)  # workers may stand in other folders
        work = Work(os.path.abspath(root), here, folder.people, candidates or _candidates, helpers or _helpers)
        try:
            if todo:
                _run(found.videos, todo, work, effort)
                manifest.clean()  # of workers that died
            yield from pack(manifest, folder.people, folder.validation, folder.shard_megabytes * 10**6)
        except KeyboardInterrupt:
            yield f"stopped; the same command goes on, and `vasa-prepare report {records}` shows how far it is"
            raise
        except UserError as error:
            raise UserError(f"{error} (the same command goes on from here)") from error
        finally:
            manifest.clean()
        totals = write_report(root)
    yield describe(root, totals)
    if not totals.clips:
        raise UserError(f"no clip was kept; {root / 'report.html'} says why")


def report(records: str | Path) -> Iterator[str]:
    """Write the report of a folder anew. Raises UserError for a folder without a manifest."""
    root = Path(records)
    if not (root / "preparation.json").is_file():
        raise UserError(f"{records} holds no preparation.json; name a folder that this command made")
    yield describe(root, write_report(root))


def describe(root: Path, totals: Totals) -> str:
    """What a folder holds, in one line."""
    people = "1 person" if totals.people == 1 else f"{totals.people} people"
    clips = f"{totals.clips} clip{'s' * (totals.clips != 1)}"
    dropped = ", ".join(f"{why} {count}" for why, count in totals.dropped.most_common())
    return (
        f"{root}: {totals.videos} videos ({totals.failed} failed), {clips} of {people}, {totals.length}; "
        f"dropped {dropped or 'nothing'}; look at {root / 'report.html'}"
    )


def _candidates(path: Path, source: str, config: PreparationConfig, helpers: Any) -> Iterator[Any]:
    from vasa_jax.preparation.video import prepare_video  # JAX, OpenCV and MediaPipe take seconds to start

    return prepare_video(path, source, config, helpers)


def _helpers(config: PreparationConfig) -> AbstractContextManager[Any]:
    from vasa_jax.preparation.video import open_helpers

    return open_helpers(config)


def _run(videos: Sequence[Video], todo: Sequence[Video], work: Work, effort: Effort) -> None:
    """Prepare what is to do, the largest first, so that the last ones end together."""
    todo = sorted(todo, key=lambda video: (-video.size, video.source))
    outcomes: Generator[Outcome]
    if effort.ray:
        outcomes = run_on_ray(todo, work, effort.workers, effort.ray)
    else:
        outcomes = run_here(todo, work, effort.workers or os.cpu_count() or 1)
    whole = sum(video.size for video in videos)
    tally = Tally(len(videos), len(videos) - len(todo))
    with closing(outcomes), Progress(tally, whole - sum(video.size for video in todo), whole) as progress:
        for outcome in outcomes:
            check_stopped()
            progress.add(outcome)


def _forget_failures(manifest: Manifest) -> None:
    for entry in list(manifest.entries()):
        if entry.get("state") == FAILED:
            manifest.forget(Video(entry["source"], "", 0).key)
