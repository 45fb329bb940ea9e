"""A notice that people see: "AI-generated" in words for the first two seconds of a video, a small "AI" from then on.

Marks inside a file are for machines; who publishes a likeness of a person must say it to viewers too (EU AI Act,
Article 50(4); China's GB 45438-2025 asks for words of at least 5 % of the shorter side, for two seconds at least). The
notice is a dark plate with white letters in the upper left corner, away from the mouth and from what players put over
the lower edge. Its letters are a share of the frame's shorter side; where one line of words is wider than the frame
they stand in two, and where these do not fit either, there is the sign alone.

It is drawn before the watermark, so that a mark is found in it as anywhere else.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from vasa_jax.arrays import FPS

SECONDS = 2.0
"""How long the words stay."""
WORDS = (("AI-generated",), ("AI", "generated"), ("AI",))
"""Lines of the notice; the first of these that fits."""
SIGN = ("AI",)
"""What stays."""
TALL = 0.075
"""Size of the letters of words in shorter sides of the frame: capitals have 0.7 of it."""
SMALL = 0.06
"""Likewise of the sign that stays."""
LEAST = 9
"""Pixels: smaller letters cannot be read."""
MARGIN = 0.03
"""Between plate and edge, in shorter sides."""
DARK, LIGHT = (16, 16, 24), (255, 255, 255)
"""Colours of plate and letters."""
COVER = 0.78
"""Opacity of the plate."""


class Plate(NamedTuple):
    """A notice of one size. top, left: where it lies, in pixels. colour: (h, w, 3), 0 to 255. cover: (h, w, 1), 0 to
    1, how much of a frame it hides."""

    top: int
    left: int
    colour: Float[np.ndarray, "h w 3"]
    cover: Float[np.ndarray, "h w 1"]


def badged(frame: UInt8[np.ndarray, "h w c"], number: int, fps: int = FPS) -> UInt8[np.ndarray, "h w c"]:
    """A frame with the notice that is due: words in the first two seconds, then the sign.

    Args:
        frame: RGB, or RGBA, whose opacity grows where the notice is.
        number: of the frame, from 0.
        fps: frames a second.
    """
    height, width = frame.shape[:2]
    plate = _plate(height, width, number < SECONDS * fps)
    below, right = plate.top + plate.cover.shape[0], plate.left + plate.cover.shape[1]
    place = (slice(plate.top, below), slice(plate.left, right))
    under = frame[place].astype(np.float32)
    opacity = under[..., 3:] / 255 if frame.shape[2] == 4 else np.ones_like(plate.cover)
    behind = opacity * (1 - plate.cover)
    whole = plate.cover + behind
    colours = (plate.colour * plate.cover + under[..., :3] * behind) / np.maximum(whole, 1e-6)
    drawn = frame.copy()
    drawn[place][..., :3] = np.round(colours)
    if frame.shape[2] == 4:
        drawn[place][..., 3:] = np.round(255 * whole)
    return drawn


def badging(frames: Iterable[UInt8[np.ndarray, "h w c"]], fps: int = FPS) -> Iterator[UInt8[np.ndarray, "h w c"]]:
    """Frames from the first on as they come, each with its notice."""
    for number, frame in enumerate(frames):
        yield badged(frame, number, fps)


@functools.lru_cache(maxsize=16)
def _plate(height: int, width: int, words: bool) -> Plate:
    """The notice for frames of a size; of frames that are smaller than itself the part that they can show."""
    short = min(height, width)
    margin = max(1, round(MARGIN * short))
    size = max(LEAST, round((TALL if words else SMALL) * short))
    font = ImageFont.load_default(size)
    for lines in WORDS if words else (SIGN,):
        image = _drawn(lines, font, size)
        if image.width + 2 * margin <= width and image.height + 2 * margin <= height / 2:
            break
    shown = np.asarray(image, np.float32)[: height - margin, : width - margin]
    return Plate(margin, margin, shown[..., :3], shown[..., 3:] / 255)


def _drawn(lines: tuple[str, ...], font: Any, size: int) -> Image.Image:
    """Lines of text on a rounded plate, RGBA."""
    across, down = max(2, round(0.45 * size)), max(1, round(0.3 * size))
    boxes = [font.getbbox(line, anchor="ls") for line in lines]
    rise, step = round(0.72 * size), round(1.15 * size)
    width = round(max(box[2] - box[0] for box in boxes)) + 2 * across
    height = rise + step * (len(lines) - 1) + 2 * down + (round(0.2 * size) if "g" in lines[-1] else 0)
    fine = 4  # drawn so many times larger, for a smooth edge
    mask = Image.new("L", (fine * width, fine * height))
    ImageDraw.Draw(mask).rounded_rectangle(
        (0, 0, fine * width - 1, fine * height - 1), fine * min(0.35 * size, height / 2), 255
    )
    mask = mask.resize((width, height), Image.Resampling.BOX)
    letters = Image.new("L", (width, height))
    pen = ImageDraw.Draw(letters)
    for row, (line, box) in enumerate(zip(lines, boxes, strict=True)):
        pen.text((across - box[0], down + rise + step * row), line, 255, font, "ls")
    share = np.asarray(letters, np.float32)[..., None] / 255
    colour = np.array(DARK) * (1 - share) + np.array(LIGHT) * share
    cover = np.asarray(mask, np.float32)[..., None] / 255 * np.maximum(COVER, share)
    return Image.fromarray(np.round(np.concatenate([colour, 255 * cover], -1)).astype(np.uint8))
