"""The originals' pictures, number by number: photo, crop and paste-back of LivePortrait's and JoyVASA's pipelines.

Both resample with OpenCV's fixed-point routines, which are written out here so that pictures come out equal to the last
grey level:

* a **warp** looks up source places in 1/32 of a pixel, integers at pixel centres, black outside;
* a **bilinear** resize has weights in 1/2048 and no antialiasing;
* an exact **halving** is the mean of four pixels, halves up.

Landmarks are MediaPipe's 478 (`faces.landmarks`); the crop reads the eyes, the mouth and the box of `EXTENT`, which
has no forehead, as the point sets that the originals read have none.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.faces.box import Box
from vasa_jax.faces.landmarks import LEFT_EYE, MOUTH, RIGHT_EYE

LONGEST = 1280
"""Pixels of the longer side of a photo; larger ones are shrunk."""
CROP = 512
"""Side of the crop, and of a rendered frame."""
SCALE, UP = 2.3, -0.125
"""Side of the crop in sides of the face's box, and the shift of its centre down the face, in sides of the crop."""
DRIVER_SCALE, DRIVER_UP = 2.2, -0.1
"""The same of the crop of a driving video, which is not turned and is the mean over its frames."""
INNER_LIPS = (13, 14)
EXTENT = (
    *(127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 336, 296, 334, 293, 300, 285, 295, 282, 283, 276),
    *(168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 129, 358),
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    *LEFT_EYE,
    *RIGHT_EYE,
    *INNER_LIPS,
)
"""Points whose box is the face: outline from temple to temple round the chin, brows, nose, lips and eyes."""


class Transform(NamedTuple):
    """From photo to crop and back: (3, 3) float32 matrices on columns (x, y, 1), integers at pixel centres."""

    to_crop: Float[np.ndarray, "3 3"]
    to_photo: Float[np.ndarray, "3 3"]


def shrink(photo: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The photo that the originals work on: its longer side 1280 at most, both sides even."""
    height, width = photo.shape[:2]
    if max(height, width) > LONGEST:
        ratio = LONGEST / max(height, width)
        size = (int(height * ratio), LONGEST) if width >= height else (LONGEST, int(width * ratio))
        photo = resize(photo, size)
    return photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2]


def find_crop(
    points: Float[np.ndarray, "478 2"],
    size: int = CROP,
    scale: float = SCALE,
    up: float = UP,
    upright: bool = True,
) -> Transform:
    """Where the crop of a face lies.

    Args:
        points: landmarks in pixels of the photo.
        size: side of the crop in pixels.
        scale, up: see SCALE and UP.
        upright: whether the crop turns with the face. Without it the box is measured along the face all the same.
    """
    points = np.asarray(points, np.float32)
    left, right, mouth = (points[list(part)].mean(0) for part in (LEFT_EYE, RIGHT_EYE, MOUTH))
    down = mouth - (left + right) / 2
    length = np.linalg.norm(down)
    down = down / length if length > 1e-3 else np.array([0, 1], np.float32)
    across = np.array([down[1], -down[0]])
    extent = points[list(EXTENT)]
    middle = extent.mean(0)
    seen = (extent - middle) @ np.stack([across, down]).T
    low, high = seen.min(0), seen.max(0)
    side = np.float32((high - low).max() * np.float32(scale))
    offset = (low + high) / 2
    centre = middle + across * offset[0] + down * offset[1] + down * (np.float32(up) * side)
    # An arc cosine of a float32: faces within 0.014 degrees of upright are not turned at all, as in the originals.
    angle = np.arccos(np.clip(across[0], -1, 1)) * (1 if across[1] >= 0 else -1) if upright else np.float32(0)
    cos, sin = np.cos(angle), np.sin(angle)
    k, half = size / side, size / 2
    x, y = centre
    to_crop = np.array(
        [
            [k * cos, k * sin, half - k * (cos * x + sin * y)],
            [-k * sin, k * cos, half - k * (-sin * x + cos * y)],
            [0, 0, 1],
        ],
        np.float32,
    )
    return Transform(to_crop, np.linalg.inv(to_crop).astype(np.float32))


def find_steady_crop(points: Float[np.ndarray, "t 478 2"]) -> Transform:
    """The one crop of a driving video, from the landmarks of its frames: not turned, the mean of their own crops."""
    each = [find_crop(frame, CROP, DRIVER_SCALE, DRIVER_UP, upright=False).to_photo for frame in points]
    corners = [(place @ np.array([[0, CROP], [0, CROP], [1, 1]], np.float32))[:2] for place in each]
    (left, right), (top, _) = np.mean(corners, 0)
    k = CROP / (right - left)
    to_crop = np.array([[k, 0, -k * left], [0, k, -k * top], [0, 0, 1]], np.float32)
    return Transform(to_crop, np.linalg.inv(to_crop).astype(np.float32))


def find_box(points: Float[np.ndarray, "478 2"], scale: float = SCALE, up: float = UP, upright: bool = True) -> Box:
    """What `find_crop` finds, as a box of the photo, whose coordinates are continuous.

    Args:
        points: landmarks in pixels of the photo, a pixel's centre at .5 (`faces.landmarks`).
        scale, up, upright: as in `find_crop`.
    """
    transform = find_crop(np.asarray(points) - 0.5, CROP, scale, up, upright)
    x, y, _ = transform.to_photo @ np.array([(CROP - 1) / 2, (CROP - 1) / 2, 1.0]) + 0.5
    across = transform.to_crop[0, :2]
    return Box(float(x), float(y), float(CROP / np.hypot(*across)), float(np.degrees(np.arctan2(across[1], across[0]))))


def cut(photo: UInt8[np.ndarray, "h w 3"], transform: Transform, size: int = CROP) -> UInt8[np.ndarray, "n n 3"]:
    """The crop of a photo, black where it leaves it."""
    return warp(photo, transform.to_crop, (size, size))


class Pasting:
    """Pastes frames into the crop of a photo, under a mask whose ramp is 16 pixels of the crop; levels are cut off.

    What is the same for all frames is worked out once, and only the part of the photo that the mask covers is touched.
    """

    def __init__(self, photo: UInt8[np.ndarray, "h w 3"], transform: Transform):
        """Of a photo and its crop."""
        mask = warp(MASK, transform.to_photo, photo.shape[:2])
        rows, columns = (_covered(mask[..., 0].max(axis)) for axis in (1, 0))
        share = mask[rows, columns].astype(np.float32) / 255
        self._photo, self._part, self._share = photo, (rows, columns), share
        self._rest = (1 - share) * photo[rows, columns]
        self._neighbours = _neighbours((CROP, CROP), transform.to_photo, rows, columns)

    def paste(self, frame: UInt8[np.ndarray, "512 512 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The photo with a frame in it."""
        whole = self._photo.copy()
        moved = _weigh(frame, self._neighbours)
        whole[self._part] = np.clip(self._share * moved + self._rest, 0, 255).astype(np.uint8)
        return whole


def to_levels(frame: Float[np.ndarray, "*b h w 3"]) -> UInt8[np.ndarray, "*b h w 3"]:
    """Rendered pictures in 0..1 as the originals write them: levels are cut off, not rounded."""
    return np.clip(255 * np.clip(np.asarray(frame, np.float32), 0, 1), 0, 255).astype(np.uint8)


def warp(
    picture: UInt8[np.ndarray, "h w c"], matrix: Float[np.ndarray, "3 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "height width c"]:
    """The picture under an affine map from its places to those of the result, whose height and width are `size`."""
    return _weigh(picture, _neighbours(picture.shape[:2], matrix, slice(0, size[0]), slice(0, size[1])))


Neighbour = tuple[np.ndarray, np.ndarray]


def _neighbours(
    shape: tuple[int, int], matrix: Float[np.ndarray, "3 3"], rows: slice, columns: slice
) -> list[Neighbour]:
    """The four pixels that each of some places of a warp looks up: their numbers in the picture, and their weights in
    1/1024, 0 outside of it."""
    height, width = shape
    (a, b, c), (d, e, f) = _inverse(np.asarray(matrix[:2], np.float64))
    x, y = (np.arange(part.start, part.stop, dtype=np.float64) for part in (columns, rows))
    column = (np.rint((b * y + c) * 1024)[:, None] + np.rint(a * x * 1024)[None] + 16).astype(np.int64) >> 5
    row = (np.rint((e * y + f) * 1024)[:, None] + np.rint(d * x * 1024)[None] + 16).astype(np.int64) >> 5
    found = []
    for below, weight_y in ((0, 32 - (row & 31)), (1, row & 31)):
        for beside, weight_x in ((0, 32 - (column & 31)), (1, column & 31)):
            at, over = (column >> 5) + beside, (row >> 5) + below
            inside = (at >= 0) & (at < width) & (over >= 0) & (over < height)
            index = np.clip(over, 0, height - 1) * width + np.clip(at, 0, width - 1)
            found.append((index, np.where(inside, weight_x * weight_y, 0).astype(np.int32)[..., None]))
    return found


def _weigh(picture: UInt8[np.ndarray, "h w c"], neighbours: list[Neighbour]) -> UInt8[np.ndarray, "height width c"]:
    """The weighted means of four neighbours each, halves up."""
    pixels = picture.reshape(-1, picture.shape[2]).astype(np.int32)
    total = functools.reduce(np.add, (weight * pixels[index] for index, weight in neighbours))
    return ((total + 512) >> 10).astype(np.uint8)


def _covered(some: np.ndarray) -> slice:
    """From the first to the last place where something is, empty where nothing is."""
    places = np.flatnonzero(some)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _inverse(matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """Of an affine map, in the order of operations that decides its last bits."""
    (a, b, c), (d, e, f) = matrix
    scale = 1.0 / (a * e - b * d)
    a, b, d, e = e * scale, b * -scale, d * -scale, a * scale
    return np.array([[a, b, -a * c - b * f], [d, e, -d * c - e * f]])


def resize(picture: UInt8[np.ndarray, "h w c"], size: tuple[int, int]) -> UInt8[np.ndarray, "height width c"]:
    """Bilinear, without antialiasing, to a height and width."""
    (top, below, down), (left, right, across) = (_weights(n, m) for n, m in zip(picture.shape[:2], size, strict=True))
    wide = picture.astype(np.int64)
    rows = wide[:, left] * across[0][None, :, None] + wide[:, right] * across[1][None, :, None]
    upper, lower = ((rows[at] >> 4) * weight[:, None, None] >> 16 for at, weight in ((top, down[0]), (below, down[1])))
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _weights(length: int, wanted: int) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Both neighbours of each new place, and their weights in 1/2048."""
    place = ((np.arange(wanted) + 0.5) * (length / wanted) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    share = place - first
    share = np.where((first < 0) | (first >= length - 1), np.float32(0), share)
    first = np.clip(first, 0, length - 1)
    weight = np.rint(share * 2048).astype(np.int64), np.rint((np.float32(1) - share) * 2048).astype(np.int64)
    return first, np.minimum(first + 1, length - 1), (weight[1], weight[0])


def halve(picture: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Each pixel the mean of four."""
    wide = picture.astype(np.int64)
    return ((wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) >> 2).astype(np.uint8)


def _mask() -> UInt8[np.ndarray, "512 512 1"]:
    place = np.arange(CROP)
    edge = np.maximum(0, np.maximum(16 - place, place - (CROP - 16))) / 16
    return np.floor(255 * np.clip(1 - np.hypot(edge[:, None], edge[None]), 0, 1)).astype(np.uint8)[..., None]


MASK = _mask()
"""How much of a frame is pasted, 0 to 255."""
