"""From landmarks to the numbers of a record: pose, gaze, lids, mouth and regions of every frame, emotion of a clip.

MediaPipe's transform carries its canonical face, in centimetres, in front of a pinhole camera of 63 degrees, whose
picture is the square in which the face was looked for. With f = side / 2 / tan(31.5 degrees), its point c appears at

    (left + side / 2 + f X / -Z, top + side / 2 - f Y / -Z),   (X, Y, Z) = T c,                             (1)

and f UNIT / -Z pixels are one of the units in which half a head's height is about 0.62. The angles are the transform's
own. What the units of `docs/data.md` leave open is fixed by people of the world's training split
(`benchmarks/preparation.py` holds the validation split against the truth): which point of the head is its centre, how
many centimetres a unit has, and how openings of lids read. Nothing is fitted that a real face contradicts: eyes have
the measures of anatomy.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage
import scipy.signal
from jaxtyping import Float, Float32

from vasa_jax.arrays import EMOTIONS, FPS
from vasa_jax.faces.box import Box
from vasa_jax.faces.landmarks import angles

VIEW = np.radians(63.0)
"""MediaPipe's camera, vertically and, in a square, horizontally."""
CENTRE = (0.0, 2.3, -3.6)
"""The head's centre in the canonical face, in centimetres: least squares over the world's training people."""
UNIT = 20.3
"""Centimetres that are one unit, from the same people; half a head's height, 0.62, is then 12.6 cm."""
LEFT_CORNERS, RIGHT_CORNERS = (33, 133), (362, 263)
"""Corners of the viewer's left and right eye, left one first."""
LEFT_IRIS, RIGHT_IRIS = 468, 473
LEFT_LIDS, RIGHT_LIDS = ((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373))
"""Upper and lower lid at three places of each eye."""
INNER_LIPS = (13, 14)
OUTER_LIPS = (0, 17)
MOUTH_CORNERS = (61, 291)
EYEBALL = 0.7
"""Radius on which the iris moves, in halves of the eye's width: 10.5 of 15 mm."""
DEPTH = 0.27
"""How far the eyeball's centre lies behind the line between the corners, in the same: 4 mm. Of the faces of four films
that look into the camera while their heads turn, irises move by 0.27 to 0.30."""
RISE = 0.14
"""How far it lies above that line, 2 mm; irises of people who look into the camera lie 0.10 to 0.18 above it."""
LOOK = 0.42
"""Radians that a blend shape of 1 turns the eyes sideways: the world's training people."""
STEADY = 5
"""Frames of the median that gaze is taken from: eyes rest for 0.2 s and more, and jump within a frame or two."""
WIDEST = 0.286
"""Inner-lip opening that counts as 1, in units (`synthetic.head.WIDEST`)."""
SHUT, RELAXED_ASPECT, RELAXED = 0.03, 0.38, 0.75
"""Height over width of an eye that is shut, and of a relaxed one, whose opening is 0.75: the world's training
people."""
WINK = 0.35
"""Difference of openings from which on one eye is shut alone."""
SEEING = 0.12
"""Openings of the lids below which no iris is seen, so that gaze is unknown; a blink."""


class Looks(NamedTuple):
    """What the detector said of one face in t frames.

    points: in pixels of the video's picture. transforms: MediaPipe's. squares: left, top and side in which it looked.
    shapes: the 52 blend shapes. found: whether the frame shows the face; others were bridged.
    """

    points: Float[np.ndarray, "t 478 2"]
    transforms: Float[np.ndarray, "t 4 4"]
    squares: Float[np.ndarray, "t 3"]
    shapes: dict[str, Float[np.ndarray, " t"]]
    found: Any


class Head(NamedTuple):
    """Where a head is in t frames.

    angles: pitch, yaw, roll in radians. centre: pixels of the video's picture. unit: pixels.
    """

    angles: Float[np.ndarray, "t 3"]
    centre: Float[np.ndarray, "t 2"]
    unit: Float[np.ndarray, " t"]


def head_of(looks: Looks, cutoff: float) -> Head:
    """Equation (1), smoothed over time by a filter without delay.

    Args:
        looks: of t frames.
        cutoff: of the filter, in Hz, less than 12.5.
    """
    turned = np.array([angles(transform) for transform in looks.transforms])
    point = looks.transforms[:, :3, :3] @ np.array(CENTRE) + looks.transforms[:, :3, 3]
    left, top, side = looks.squares.T
    focal = side / 2 / np.tan(VIEW / 2)
    scale = focal / -point[:, 2]
    centre = np.stack([left + side / 2 + scale * point[:, 0], top + side / 2 - scale * point[:, 1]], 1)
    rows = np.concatenate([turned, centre, np.log(scale * UNIT)[:, None]], 1)
    rows = smooth(rows, cutoff)
    return Head(rows[:, :3], rows[:, 3:5], np.exp(rows[:, 5]))


def smooth(rows: Float[np.ndarray, "t c"], cutoff: float) -> Float[np.ndarray, "t c"]:
    """A Butterworth filter of second order, forwards and backwards: no delay. `cutoff` in Hz."""
    if len(rows) < 4:
        return rows
    parts = scipy.signal.butter(2, cutoff, fs=FPS, output="sos")
    return scipy.signal.sosfiltfilt(parts, rows, axis=0, padlen=min(len(rows) - 1, 15))


def labels_of(looks: Looks, head: Head, box: Box, size: int) -> dict[str, Float32[np.ndarray, "t ..."]]:
    """Labels of the crops of `size` pixels that a box cuts, as `docs/data.md` describes them.

    Returns:
        `pose` (t, 6), `gaze` (t, 2), `mouth` (t, 1), `lids` (t, 2), `expression` (t, 2), `regions` (t, 3, 4).
    """
    half = box.side / 2 * (size - 1) / size  # crop units go from the first to the last pixel's centre
    place = (head.centre - np.array([box.x, box.y])) / half
    pose = np.concatenate([head.angles, place, np.log(half / head.unit)[:, None]], 1)
    lids = openings(looks)
    gaze = gaze_of(looks, head)
    unseen = lids.max(1) < SEEING
    gaze = np.where(unseen[:, None], np.nan, gaze)
    labels = {
        "pose": pose,
        "gaze": gaze,
        "mouth": mouth_opening(looks, head)[:, None],
        "lids": lids,
        "expression": expression_of(looks),
        "regions": regions_of(looks, box, half),
    }
    return {name: value.astype(np.float32) for name, value in labels.items()}


def gaze_of(looks: Looks, head: Head) -> Float[np.ndarray, "t 2"]:
    """theta and phi in the camera's frame, radians, of both eyes together.

    Sideways the blend shapes of the eyes, which MediaPipe takes from irises and lids, turned with the head; upwards,
    where they follow the lids, from the middle of each eyeball to its iris. An eyeball's centre lies behind the middle
    between the eye's corners, and above it, as the head is turned.
    """
    pitch, yaw, roll = head.angles.T
    # the head's axis into the picture, (0, 0, 1) R of `geometry.rotation`, in the picture's plane
    back = np.stack(
        [
            np.cos(roll) * np.sin(yaw) * np.cos(pitch) + np.sin(roll) * np.sin(pitch),
            np.sin(roll) * np.sin(yaw) * np.cos(pitch) - np.cos(roll) * np.sin(pitch),
        ],
        1,
    )
    upwards = np.stack([np.sin(roll), -np.cos(roll)], 1)
    heights = []
    for iris, (one, other) in ((LEFT_IRIS, LEFT_CORNERS), (RIGHT_IRIS, RIGHT_CORNERS)):
        a, b = looks.points[:, one], looks.points[:, other]
        half = np.hypot(*(b - a).T)[:, None] / np.maximum(0.3, np.cos(yaw))[:, None] / 2
        heights.append(
            (looks.points[:, iris, 1] - ((a + b) / 2 + half * (DEPTH * back + RISE * upwards))[:, 1]) / half[:, 0]
        )
    phi = np.arcsin(np.clip(-np.mean(heights, 0) / EYEBALL, -0.95, 0.95))
    shapes = looks.shapes
    aside = (
        LOOK
        / 2
        * (shapes["eyeLookOutLeft"] - shapes["eyeLookInLeft"] + shapes["eyeLookInRight"] - shapes["eyeLookOutRight"])
    )
    # (sin theta, 0, -cos theta) in the head, times R
    x = np.sin(aside) * np.cos(roll) * np.cos(yaw) - np.cos(aside) * back[:, 0]
    z = -np.sin(aside) * np.sin(yaw) - np.cos(aside) * np.cos(yaw) * np.cos(pitch)
    return scipy.ndimage.median_filter(np.stack([np.arctan2(x, -z), phi], 1), (STEADY, 1), mode="nearest")


def aspects(looks: Looks) -> Float[np.ndarray, "t 2"]:
    """Height over width of the viewer's left and right eye."""
    columns = []
    for corners, lids in ((LEFT_CORNERS, LEFT_LIDS), (RIGHT_CORNERS, RIGHT_LIDS)):
        heights = [_length(looks, upper, lower) for upper, lower in lids]
        columns.append(np.mean(heights, 0) / np.maximum(_length(looks, *corners), 1e-6))
    return np.stack(columns, 1)


def openings(looks: Looks) -> Float[np.ndarray, "t 2"]:
    """Of the lids, 0 closed to 1 wide: the mean of both eyes, which halves the noise, but where one alone is shut."""
    each = np.clip((aspects(looks) - SHUT) * RELAXED / (RELAXED_ASPECT - SHUT), 0.0, 1.0)
    winks = np.abs(each[:, :1] - each[:, 1:]) > WINK
    return np.where(winks, each, each.mean(1, keepdims=True))


def mouth_opening(looks: Looks, head: Head) -> Float[np.ndarray, " t"]:
    """Of the inner lips, 0 closed to 1 wide open."""
    gap = _length(looks, *INNER_LIPS) / head.unit
    return np.clip(gap / np.maximum(0.5, np.cos(head.angles[:, 0])) / WIDEST, 0.0, 1.0)


def expression_of(looks: Looks) -> Float[np.ndarray, "t 2"]:
    """Lip corners, -1 drawn down to 1 drawn up, and brows, -1 lowered to 1 raised: differences of blend shapes."""
    shapes = looks.shapes

    def both(name: str) -> Float[np.ndarray, " t"]:
        return (shapes[f"{name}Left"] + shapes[f"{name}Right"]) / 2

    corners = both("mouthSmile") - both("mouthFrown")
    brows = (shapes["browInnerUp"] + both("browOuterUp")) / 2 - both("browDown")
    return np.stack([corners, brows], 1)


def regions_of(looks: Looks, box: Box, half: float) -> Float[np.ndarray, "t 3 4"]:
    """Ellipses around the viewer's left and right eye and the mouth, in crop units."""
    rows = []
    for left, right in (LEFT_CORNERS, RIGHT_CORNERS):
        a, b = looks.points[:, left], looks.points[:, right]
        width = np.hypot(*(b - a).T) / 2
        rows.append(np.concatenate([(a + b) / 2, np.stack([1.15 * width, 0.79 * width], 1)], 1))
    high, low = (looks.points[:, i] for i in OUTER_LIPS)
    width, height = _length(looks, *MOUTH_CORNERS) / 2, _length(looks, *OUTER_LIPS) / 2
    unit = np.median(rows[0][:, 2])
    rows.append(np.concatenate([(high + low) / 2, np.stack([1.25 * width, height + 0.3 * unit], 1)], 1))
    regions = np.stack(rows, 1)
    regions[..., :2] -= np.array([box.x, box.y])
    return regions / half


def emotion_of(shapes: dict[str, Float[np.ndarray, " t"]]) -> Float32[np.ndarray, " 8"]:
    """Coefficients of EMOTIONS from blend shapes, the mean over a clip; they sum to 1, what is left is neutral.

    A rough reading of action units (Ekman and Friesen 1978), for those without HSEmotion's model.
    """
    mean = {name: float(np.mean(values)) for name, values in shapes.items()}

    def both(name: str) -> float:
        return (mean.get(f"{name}Left", 0.0) + mean.get(f"{name}Right", 0.0)) / 2

    smile, frown = both("mouthSmile"), both("mouthFrown")
    raised, lowered, wide = mean.get("browInnerUp", 0.0), both("browDown"), both("eyeWide")
    sneer, upper, stretch = both("noseSneer"), both("mouthUpperUp"), both("mouthStretch")
    onesided = abs(mean.get("mouthSmileLeft", 0.0) - mean.get("mouthSmileRight", 0.0))
    scores = {
        "anger": lowered * (1 - smile) * (1 - raised),
        "contempt": onesided,
        "disgust": max(sneer, upper * lowered),
        "fear": min(raised, max(wide, stretch)),
        "happiness": smile,
        "sadness": max(frown, raised * (1 - smile) * (1 - wide) * 0.5),
        "surprise": min(raised + both("browOuterUp"), 1.0) * max(wide, mean.get("jawOpen", 0.0)),
    }
    vector = np.array([scores.get(name, 0.0) for name in EMOTIONS], np.float32)
    vector /= max(1.0, float(vector.sum()))
    vector[EMOTIONS.index("neutral")] = 1.0 - vector.sum()
    return vector


def _length(looks: Looks, one: int, other: int) -> Float[np.ndarray, " t"]:
    return np.hypot(*(looks.points[:, one] - looks.points[:, other]).T)
