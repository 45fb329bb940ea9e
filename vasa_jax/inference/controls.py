"""What a user may ask of the performance: where to look, how far away to be, what to feel (VASA-1 section 3.2, g, d and
e), as tracks: constants, or one value a frame.

Gaze is a pair (theta, phi) of angles in the camera frame, theta > 0 to the viewer's right and phi > 0 up; the head's
distance is a factor of the training mean, to whose logarithm (the statistics' mean of pose[5]) a session adds that of
the factor; an emotion is the clip mean of the eight HSEmotion coefficients. The defaults are the paper's: forward gaze,
mean distance, null emotion.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from vasa_jax.arrays import EMOTIONS
from vasa_jax.errors import UserError

GAZE_DEGREES = 20.0
"""How far "left", "right", "up" and "down" look."""
GAZE_LIMIT = 60.0
"""The largest angle of gaze that is accepted, in degrees."""
DIRECTIONS = {
    "forward": (0.0, 0.0),
    "left": (-GAZE_DEGREES, 0.0),
    "right": (GAZE_DEGREES, 0.0),
    "up": (0.0, GAZE_DEGREES),
    "down": (0.0, -GAZE_DEGREES),
}
DISTANCES = (0.25, 4.0)
"""The nearest and the farthest, as factors of the training mean."""
ADJECTIVES = {
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}

Gaze = str | tuple[float, float]
T = TypeVar("T")


class Controls(NamedTuple):
    """Tracks of t frames, as the network reads them; a track of one frame is a constant.

    gaze: (t, 2) float32, theta and phi in radians, camera frame.
    distance: (t, 1) float32, logarithm of the factor of the training mean.
    emotion: (t, 8) float32, coefficients of `arrays.EMOTIONS`.
    emotion_known: (t,) bool; False is the null emotion.
    """

    gaze: np.ndarray
    distance: np.ndarray
    emotion: np.ndarray
    emotion_known: np.ndarray


def make_controls(
    gaze: Gaze | Sequence[Gaze] = "forward",
    distance: float | Sequence[float] = 1.0,
    emotion: str | None | Sequence[str | None] = None,
) -> Controls:
    """Reads what a user wrote; each may be a list with one value a frame.

    Args:
        gaze: "left", "right", "up", "down" (20 degrees), "forward", "theta,phi" in degrees, or that pair of numbers.
        distance: factor of the training mean, 0.25 to 4; 2 is twice as far.
        emotion: a class or its adjective, with an optional weight from 0 to 1 ("happiness", "sad:0.6"); None is no
            request.

    Raises:
        UserError: anything else, or an empty track.
    """
    values: list[Any] = [gaze] if isinstance(gaze, str) else list(gaze)
    one = len(values) == 2 and not any(np.ndim(part) or isinstance(part, str) for part in values)
    gazes: list[Any] = [tuple(values)] if one else values
    distances: Sequence[Any] = distance if isinstance(distance, Sequence | np.ndarray) else [distance]
    emotions = [emotion] if isinstance(emotion, str | None) else list(emotion)
    for name, track in (("gaze", gazes), ("distance", distances), ("emotion", emotions)):
        if not len(track):
            raise UserError(f"the track of {name} is empty; give one value a frame, or one for all")
    felt = [np.zeros(len(EMOTIONS), np.float32) if name is None else parse_emotion(name) for name in emotions]
    return Controls(
        gaze=np.stack([np.radians(np.asarray(parse_gaze(direction), np.float32)) for direction in gazes]),
        distance=np.asarray([[math.log(parse_distance(factor))] for factor in distances], np.float32),
        emotion=np.stack(felt),
        emotion_known=np.asarray([name is not None for name in emotions]),
    )


def track(controls: T, first: int, count: int) -> T:
    """Frames `first` to `first + count` of every track of a pytree; the last value stays when a track has ended."""
    return jax.tree.map(lambda leaf: leaf[np.minimum(np.arange(first, first + count), len(leaf) - 1)], controls)


def between(before: T, after: T, share: float) -> T:
    """Values on the way from one to the other, all of t frames: share 0 is `before`, 1 is `after`.

    Numbers go straight. On the way to or from no emotion the other end is neutral, since whether an emotion is known
    can only change at once.
    """
    if share >= 1:
        return after
    mixed = jax.tree.map(lambda a, b: ((1 - share) * a + share * b).astype(b.dtype), before, after)
    if not isinstance(before, Controls):
        return mixed
    assert isinstance(after, Controls)
    neutral = np.eye(len(EMOTIONS), dtype=np.float32)[EMOTIONS.index("neutral")]
    start, end = (np.where(part.emotion_known[:, None], part.emotion, neutral[None]) for part in (before, after))
    known = before.emotion_known | after.emotion_known
    felt = np.where(known[:, None], (1 - share) * start + share * end, 0).astype(np.float32)
    return mixed._replace(emotion=felt, emotion_known=known)


def replaced(controls: T, wishes: T, names: Iterable[str]) -> T:
    """Controls, of which those in `names` ("gaze", "distance", "emotion") are taken from `wishes`."""
    if not isinstance(controls, Controls):
        return controls
    names = set(names)
    taken = {field: getattr(wishes, field) for field in Controls._fields if field.removesuffix("_known") in names}
    return controls._replace(**taken)


def parse_gaze(gaze: Gaze) -> tuple[float, float]:
    """Angles (theta, phi) in degrees. Raises UserError for what is no direction, or more than 60 degrees."""
    ways = f"choose {', '.join(DIRECTIONS)}, or 'theta,phi' in degrees (at most {GAZE_LIMIT:g} either way)"
    if isinstance(gaze, str):
        if gaze.strip().lower() in DIRECTIONS:
            return DIRECTIONS[gaze.strip().lower()]
        parts = gaze.split(",")
    else:
        parts = list(gaze)
    try:
        theta, phi = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise UserError(f"gaze {gaze!r} is unknown; {ways}") from None
    if not (abs(theta) <= GAZE_LIMIT and abs(phi) <= GAZE_LIMIT):
        raise UserError(f"gaze {gaze!r} is out of range; {ways}")
    return theta, phi


def parse_distance(distance: float) -> float:
    """The factor itself. Raises UserError outside 0.25 to 4."""
    low, high = DISTANCES
    if not low <= distance <= high:
        raise UserError(f"distance {distance:g} is out of range; give {low:g} to {high:g}; 1 is the mean")
    return float(distance)


def parse_emotion(emotion: str) -> np.ndarray:
    """Coefficients (8,), float32, which sum to 1: the weight for the class that was asked for, the rest for neutral.

    Raises:
        UserError: an unknown class, or a weight outside 0 to 1.
    """
    name, colon, text = emotion.strip().lower().partition(":")
    name = ADJECTIVES.get(name.strip(), name.strip())
    if name not in EMOTIONS:
        raise UserError(f"emotion {emotion!r} is unknown; choose {', '.join(EMOTIONS)} (or {', '.join(ADJECTIVES)})")
    try:
        weight = float(text) if colon else 1.0
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= 1:
        raise UserError(f"emotion {emotion!r} has no weight from 0 to 1; write for example {name}:0.6")
    coefficients = np.zeros(len(EMOTIONS), np.float32)
    coefficients[EMOTIONS.index("neutral")] = 1 - weight
    coefficients[EMOTIONS.index(name)] += weight
    return coefficients
