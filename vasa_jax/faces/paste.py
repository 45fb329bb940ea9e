"""Rendered frames back into the whole photo, at the photo's own size and sharpness.

With C the crop of the photo P that the model saw, F a rendered frame, both enlarged to the photo's pixels (^), and m a
mask that falls to 0 towards the border of the box, a pasted photo is

    O = P + m (g F^ + o + w (P - C^) - P),      w = exp(-(|F - C| / s)^2),      rounded once.                  (1)

g and o match the colours of the model's own rendering of the photo to the photo in the ring where they meet. P - C^
is the detail that the crop lost (a photo may be larger than the model's frames); where a frame shows what the crop
shows it is put back, so that a frame that equals the crop gives the photo. Outside of the box nothing is touched.
"""

import math

import numpy as np
import scipy.ndimage
from jaxtyping import Float, UInt8
from PIL import Image

from vasa_jax.faces.box import Box, crop

FEATHER = 0.06
"""Width of the mask's ramp, in sides of the box."""
MIN_FEATHER = 8.0
"""Its least width, in pixels of the photo."""
LIKENESS = 12.0
"""s of equation (1), in grey levels."""
BORDER = 2
"""Pixels that interpolation reaches beyond the frame."""
GAINS = (0.5, 2.0)
"""Bounds of g: more is no difference of colours."""


class Pasting:
    """Puts frames into one photo; what depends on the photo alone is computed once."""

    def __init__(self, photo: UInt8[np.ndarray, "h w c"], box: Box, size: int):
        """For frames of `size` pixels; a fourth channel of the photo, its transparency, is kept as it is."""
        self._photo, self._size, self._side = photo, size, box.side
        left, top, right, bottom = _bounds(box, *photo.shape[1::-1])
        self._area = (slice(top, bottom), slice(left, right))
        x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
        place = box.seen(np.stack([x, y], -1).reshape(-1, 2), 1).reshape(*x.shape, 2)
        edge = np.minimum(place, 1 - place).min(-1)
        ramp = np.clip(edge / max(FEATHER, min(0.5, MIN_FEATHER / box.side)), 0, 1)
        self._mask = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)[..., None]
        origin, right_of, below = box.seen(np.array([(left, top), (left + 1, top), (left, top + 1)]), 1)
        self._affine = np.stack([right_of - origin, below - origin, origin], 1).reshape(-1)
        self._seen = crop(photo[..., :3], box, size)
        self._below = photo[self._area][..., :3].astype(np.float32)
        self._detail = self._below - self._enlarged(self._seen)
        inward = np.minimum(np.arange(size) + 0.5, size - 0.5 - np.arange(size)) / size
        self._ring = np.minimum(inward[:, None], inward) < 2 * FEATHER
        self._gain, self._offset = np.ones(3, np.float32), np.zeros(3, np.float32)

    @property
    def crop(self) -> UInt8[np.ndarray, "n n 3"]:
        """What the model sees of the photo."""
        return self._seen

    def match(self, rendered: UInt8[np.ndarray, "n n 3"]) -> None:
        """Match colours by the model's rendering of the photo at its own motion."""
        theirs, ours = (picture[self._ring].astype(np.float64) for picture in (rendered, self._seen))
        gain = np.clip((ours.std(0) + 1) / (theirs.std(0) + 1), *GAINS)
        self._gain, self._offset = gain.astype(np.float32), (ours.mean(0) - gain * theirs.mean(0)).astype(np.float32)

    def paste(self, frame: UInt8[np.ndarray, "n n 3"]) -> UInt8[np.ndarray, "h w c"]:
        """The photo with a frame in its box, equation (1)."""
        pasted = self._photo.copy()
        if not self._mask.size:
            return pasted
        matched = np.clip(frame * self._gain + self._offset, 0, 255)
        apart = np.abs(matched - self._seen).mean(-1)
        alike = np.exp(-np.square(scipy.ndimage.uniform_filter(apart, 3) / LIKENESS))
        new = self._enlarged(np.round(matched).astype(np.uint8))
        new += self._enlarged(np.round(255 * alike).astype(np.uint8)[..., None]) / 255 * self._detail
        blend = self._below + self._mask * (new - self._below)
        pasted[self._area][..., :3] = np.clip(np.round(blend), 0, 255).astype(np.uint8)
        return pasted

    def _enlarged(self, frame: UInt8[np.ndarray, "n n c"]) -> Float[np.ndarray, "y x c"]:
        """A frame at the photo's pixels within the box's bounds."""
        picture = Image.fromarray(frame if frame.shape[-1] == 3 else frame[..., 0])
        side = min(self._size, max(1, round(self._side)))
        if side < self._size:
            picture = picture.resize((side, side), Image.Resampling.LANCZOS)
        padded = _with_border(picture)
        a, b, c, d, e, f = (side * float(number) for number in self._affine)
        shape = self._mask.shape[1::-1]
        affine = (a, b, c + BORDER, d, e, f + BORDER)
        moved = padded.transform(shape, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
        return np.asarray(moved, np.float32).reshape(*self._mask.shape[:2], frame.shape[-1])


def _with_border(picture: Image.Image) -> Image.Image:
    """The picture with its edge repeated, since Pillow leaves what it cannot interpolate black."""
    values = np.asarray(picture)
    return Image.fromarray(np.pad(values, [(BORDER, BORDER)] * 2 + [(0, 0)] * (values.ndim - 2), mode="edge"))


def _bounds(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what a box covers of a photo, in whole pixels; empty where it misses it."""
    corners = box.places(np.array([(0, 0), (0, 1), (1, 0), (1, 1)]), 1)
    left, top = (max(0, math.floor(low)) for low in corners.min(0))
    right, bottom = (min(limit, math.ceil(high)) for limit, high in zip((width, height), corners.max(0), strict=True))
    return left, top, max(left, right), max(top, bottom)
