"""The clips of one video, in bounded memory and in the order in which they end."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.faces.landmarks import Landmarker
from vasa_jax.media.video import read_video
from vasa_jax.preparation.config import PreparationConfig


class PreparedClip(NamedTuple):
    """A clip that is kept.

    frames: a JPEG of each picture, 25 a second. audio: float32 at 16 kHz, n = 640 t, or None. labels: name to array,
    as `data.records` wants them. about: where it comes from (`source`, `track`, `start` and `end` in seconds) and how
    good it is, for the report.
    """

    frames: list[bytes]
    audio: np.ndarray | None
    labels: dict[str, Any]
    about: dict[str, str | int | float]


class Dropped(NamedTuple):
    """A candidate that is not kept.

    reason: a key of `config.REASONS`. start, end: seconds in the source. picture: a JPEG of at most 128 pixels.
    """

    reason: str
    start: float
    end: float
    picture: bytes | None


@dataclasses.dataclass
class Helpers:
    """What is opened once and serves many videos."""

    landmarker: Landmarker


@contextlib.contextmanager
def open_helpers(config: PreparationConfig) -> Iterator[Helpers]:
    """The detectors that a config asks for.

    Raises:
        UserError: one is missing or cannot start.
    """
    with Landmarker() as landmarker:
        yield Helpers(landmarker)


def prepare_video(
    path: Path, source: str, config: PreparationConfig, helpers: Helpers
) -> Iterator[PreparedClip | Dropped]:
    """The clips of a video.

    Args:
        path: of the video.
        source: its name in the records; with the number of a track it makes an identity.
        config: thresholds.
        helpers: from `open_helpers`, of the same config.

    Raises:
        UserError: a file that cannot be used at all.
    """
    count = sum(1 for _ in read_video(path))
    yield Dropped("short", 0.0, count / 25, None)
