"""Pictures in a row, each with a caption below: what shows several faces in one frame, or steps of a comparison."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

GROUND, INK, PALE = (24, 26, 30), (240, 240, 236), (128, 130, 134)
"""Colours: below the pictures; of the first line of a caption; of the others."""
BAND = 0.25
"""Height of the captions, of a picture's side."""


class Caption(NamedTuple):
    """lines: one or two. icon: a small picture before them, or None. lit: whether its first line stands out."""

    lines: tuple[str, ...]
    icon: UInt8[np.ndarray, "n n 3"] | None = None
    lit: bool = True


def row_shape(count: int, side: int) -> tuple[int, int]:
    """Height and width in pixels of a row of so many pictures of `side` pixels: even numbers for an even side."""
    return side + band(side), count * side


def band(side: int) -> int:
    """Height of the captions in pixels, even."""
    return round(BAND * side / 2) * 2


def draw_row(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], captions: Sequence[Caption], side: int
) -> UInt8[np.ndarray, "y x 3"]:
    """The row.

    Args:
        pictures: square, of any sides; they are drawn `side` pixels large.
        captions: as many.
        side: in pixels.
    """
    tiles = []
    for picture, caption in zip(pictures, captions, strict=True):
        below = _caption(caption.lines, caption.lit, side, caption.icon is not None).copy()
        if caption.icon is not None:
            icon, margin = fitted(caption.icon, icon_side(side)), _margin(side)
            below[margin : margin + len(icon), margin : margin + len(icon)] = icon
        tiles.append(np.concatenate([fitted(picture, side), below]))
    return np.concatenate(tiles, 1)


def fitted(picture: UInt8[np.ndarray, "_ _ 3"], side: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """A square picture at another size."""
    if len(picture) == side:
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def icon_side(side: int) -> int:
    """Side of the icons below pictures of `side` pixels."""
    return band(side) - 2 * _margin(side)


def _margin(side: int) -> int:
    return max(1, side // 40)


@functools.lru_cache(maxsize=256)
def _caption(lines: tuple[str, ...], lit: bool, side: int, icon: bool) -> UInt8[np.ndarray, "_ _ 3"]:
    height, margin = band(side), _margin(side)
    sheet = Image.new("RGB", (side, height), GROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(8, round(0.3 * height)))
    left = height if icon else margin
    for number, line in enumerate(lines):
        middle = height * (2 * number + 1) / (2 * len(lines))
        pen.text((left, middle), line, INK if lit and not number else PALE, font, anchor="lm")
    return np.asarray(sheet)
