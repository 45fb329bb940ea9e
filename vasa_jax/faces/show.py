"""What the detector saw, drawn into what the model sees."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from vasa_jax.faces.box import Box, crop
from vasa_jax.faces.landmarks import LEFT_EYE, MOUTH, RIGHT_EYE, Face

LANDMARKS, AXIS = (0, 255, 0), (255, 0, 0)
"""Colours: of the landmarks; of the lines from eye to eye and from between the eyes to the mouth."""


def draw_crop(
    photo: UInt8[np.ndarray, "h w 3"], box: Box, face: Face | None, size: int
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The crop of a photo, `size` pixels wide, with the landmarks and the axes of its face; without a face, the crop.

    Pixels that no mark covers are those of `crop`.
    """
    picture = Image.fromarray(crop(photo, box, size))
    if face is not None:
        points = box.seen(face.points, size) - 0.5  # Pillow draws at the centres of pixels
        pen, radius = ImageDraw.Draw(picture), max(1, size // 400)
        left, right, mouth = (points[list(part)].mean(0) for part in (LEFT_EYE, RIGHT_EYE, MOUTH))
        for start, end in ((left, right), ((left + right) / 2, mouth)):
            pen.line([*start, *end], fill=AXIS, width=radius)
        for x, y in points:
            pen.ellipse([x - radius / 2, y - radius / 2, x + radius / 2, y + radius / 2], fill=LANDMARKS)
    return np.asarray(picture)
