"""What a video gives, one candidate after the other: clips that are kept, and those that are dropped."""

from typing import Any, NamedTuple

import numpy as np


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
