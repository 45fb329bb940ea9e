"""The square of a photo that a model sees, as a similarity transform, and what lies in it.

A box has its centre (x, y), its side and the angle of its upper edge, clockwise. With u = (cos a, sin a) and
v = (-sin a, cos a), the place (i, j) of a crop of n pixels, whose corner is (0, 0), lies in the photo at

    (x, y) + side ((i / n - 1/2) u + (j / n - 1/2) v).                                     (1)

Coordinates are continuous in both: pixel i covers i to i + 1. What lies outside the photo repeats its edge.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Real, UInt8
from PIL import Image

from vasa_jax.errors import UserError
from vasa_jax.faces.landmarks import LEFT_EYE, MOUTH, RIGHT_EYE, Face

MIN_SIDE = 16.0
"""Pixels; a smaller box cannot show a face."""
MOST_OUTSIDE = 0.9
"""Share of a given box that may lie outside of the photo; beyond it the numbers are a mistake."""


class Framing(NamedTuple):
    """How a model wants a face to lie in its crop, in units of the crop's side.

    eyes: (x, y) of the point between the eyes.
    reach: from there to the middle of the mouth.
    upright: whether the crop turns with the face, so that the line from the eyes to the mouth runs straight down.
    """

    eyes: tuple[float, float]
    reach: float
    upright: bool


WORLD = Framing((0.5, 0.48), 0.187, False)
"""As the synthetic world frames its neutral portraits, which the demo model knows."""


class Box(NamedTuple):
    """A square of a photo: centre x and y and side in pixels, angle of the upper edge in degrees, clockwise."""

    x: float
    y: float
    side: float
    degrees: float = 0.0

    def places(self, points: Real[np.ndarray, "n 2"], size: int) -> Float[np.ndarray, "n 2"]:
        """Where points of a crop of `size` pixels lie in the photo, equation (1)."""
        across, down = self._axes()
        centred = np.asarray(points, np.float64) / size - 0.5
        return np.array([self.x, self.y]) + self.side * (centred[:, :1] * across + centred[:, 1:] * down)

    def seen(self, points: Real[np.ndarray, "n 2"], size: int) -> Float[np.ndarray, "n 2"]:
        """Where points of the photo lie in a crop of `size` pixels: the inverse of `places`."""
        across, down = self._axes()
        offset = (np.asarray(points, np.float64) - np.array([self.x, self.y])) / self.side
        return size * (np.stack([offset @ across, offset @ down], 1) + 0.5)

    def scaled(self, factor: float) -> "Box":
        """The same box in the photo at another size."""
        return Box(self.x * factor, self.y * factor, self.side * factor, self.degrees)

    def outside(self, width: int, height: int) -> float:
        """The share of the box's area that lies outside a photo, 0 to 1, to about 1 %."""
        grid = (np.stack(np.meshgrid(*[np.arange(64)] * 2), -1).reshape(-1, 2) + 0.5) / 64
        x, y = self.places(grid, 1).T
        return float(np.mean((x < 0) | (y < 0) | (x > width) | (y > height)))

    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        angle = math.radians(self.degrees)
        return np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])


def frame_face(face: Face, framing: Framing) -> Box:
    """The box in which a face lies as a model wants it."""
    left, right, mouth = (face.points[list(part)].mean(0) for part in (LEFT_EYE, RIGHT_EYE, MOUTH))
    eyes = (left + right) / 2
    down = mouth - eyes
    length = float(np.hypot(*down))
    angle = math.degrees(math.atan2(-down[0], down[1])) if framing.upright and length > 1e-3 else 0.0
    side = max(length / framing.reach, MIN_SIDE)
    turned = Box(0.0, 0.0, side, angle).places(np.array([framing.eyes]), 1)[0]
    return Box(float(eyes[0] - turned[0]), float(eyes[1] - turned[1]), side, angle)


def parse_box(text: str) -> Box:
    """A box as a user writes it: "x,y,size" of the upper left corner and the side in pixels, and perhaps the angle in
    degrees, by which the square is turned about its centre.

    Raises:
        UserError: for anything else, or a side under 16 pixels.
    """
    try:
        x, y, side, *rest = (float(part) for part in text.split(","))
        (degrees,) = rest or [0.0]
    except ValueError:
        raise UserError(f"{text!r} is not x,y,size or x,y,size,degrees: numbers of pixels and an angle") from None
    if not all(map(math.isfinite, (x, y, side, degrees))) or side < MIN_SIDE:
        raise UserError(f"the box {text} is too small to show a face; its side must be at least {MIN_SIDE:g} pixels")
    return Box(x + side / 2, y + side / 2, side, degrees)


def write_box(box: Box) -> str:
    """A box as `parse_box` reads it, in whole pixels and tenths of a degree."""
    turn = f",{box.degrees:.1f}" if abs(box.degrees) >= 0.05 else ""
    return f"{round(box.x - box.side / 2)},{round(box.y - box.side / 2)},{round(box.side)}{turn}"


def check_box(box: Box, width: int, height: int) -> Box:
    """The box itself. Raises UserError where more than nine tenths of it lie outside of the photo."""
    if (share := box.outside(width, height)) > MOST_OUTSIDE:
        lies = "lies" if share == 1 else f"lies for {share:.0%}"
        raise UserError(
            f"the box {write_box(box)} {lies} outside of the picture, which is {width}x{height} pixels; "
            "give the x and y of its upper left corner and its side"
        )
    return box


def largest_square(width: int, height: int) -> Box:
    """The largest square of a picture: the upper one of a tall picture, since people stand with their heads up, and the
    central one of a wide one."""
    side = min(width, height)
    return Box(width / 2, side / 2, float(side))


def crop(photo: UInt8[np.ndarray, "h w c"], box: Box, size: int) -> UInt8[np.ndarray, "{size} {size} c"]:
    """What a box holds, as a square of `size` pixels, with antialiasing; outside of the photo its edge is repeated."""
    across, down = (np.abs(part).sum() / 2 * box.side for part in zip(*box._axes(), strict=True))
    margin = 4 * max(1.0, box.side / size)  # the filters' reach
    left, top = math.floor(box.x - across - margin), math.floor(box.y - down - margin)
    right, bottom = math.ceil(box.x + across + margin), math.ceil(box.y + down + margin)
    area = _with_edge(photo, left, top, right, bottom)
    local = box._replace(x=box.x - left, y=box.y - top)
    if box.degrees == 0:
        corner = (local.x - box.side / 2, local.y - box.side / 2)
        bounds = (*corner, corner[0] + box.side, corner[1] + box.side)
        return _each_channel(area, lambda plane: plane.resize((size, size), Image.Resampling.LANCZOS, bounds))
    shrink = min(1.0, size / box.side)
    width, height = (max(1, round(length * shrink)) for length in (area.shape[1], area.shape[0]))
    area = _each_channel(area, lambda plane: plane.resize((width, height), Image.Resampling.LANCZOS))
    ratio = np.array([width / (right - left), height / (bottom - top)])
    grid = np.stack(np.meshgrid(*[np.arange(size) + 0.5] * 2), -1).reshape(-1, 2)
    x, y = (local.places(grid, size) * ratio).T - 0.5
    planes = [
        scipy.ndimage.map_coordinates(area[..., c].astype(np.float32), (y, x), order=3, mode="nearest")
        for c in range(area.shape[-1])
    ]
    return np.clip(np.round(np.stack(planes, -1)), 0, 255).astype(np.uint8).reshape(size, size, -1)


def _with_edge(photo: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    height, width = photo.shape[:2]
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    return photo[rows[:, None], columns[None]]


def _each_channel(area: np.ndarray, change) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(area[..., c]))) for c in range(area.shape[-1])], -1)
