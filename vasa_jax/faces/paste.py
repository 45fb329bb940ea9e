"""Rendered frames back into the whole photo, at the photo's own size and sharpness.

With C the crop of the photo P that the model saw, F a rendered frame, both enlarged to the photo's pixels (^), and m a
mask that falls to 0 towards the border of the box, a pasted photo is

    O = P + m (g F^ + o + w (P - C^) - P),      w = exp(-(|F - C| / s)^2).                                 (1)

g and o match the colours of the model's own rendering of the photo to the photo in the ring where they meet. P - C^
is the detail that the crop lost (a photo may be larger than the model's frames); where a frame shows what the crop
shows it is put back, so that a frame that equals the crop gives the photo. Outside of the box nothing is touched.

A photo with transparency keeps it. Equation (1) then works on the photo over grey, as the model sees it, and what it
changes there is what would be seen of a change of the photo's own colours by (O - P) / opacity.

The four levels of a pixel (three colours, and w in the fourth) travel as one whole number of 32 bits, so that a pixel
is looked up once; enlarging is bicubic to twice the frame's pixels and bilinear from there.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8, UInt32
from PIL import Image

from vasa_jax.faces.box import Box, crop
from vasa_jax.media.image import over_grey

FEATHER = 0.06
"""Width of the mask's ramp, in sides of the box."""
MIN_FEATHER = 8.0
"""Its least width, in pixels of the photo."""
LIKENESS = 12.0
"""s of equation (1), in grey levels."""
QUARTER = (-0.0234375, 0.2265625, 0.8671875, -0.0703125)
"""Weights of the bicubic convolution (a = -1/2) at distances 1.75, 0.75, 0.25 and 1.25."""
GAINS = (0.5, 2.0)
"""Bounds of g: more is no difference of colours."""


class Pasting:
    """Puts frames into one photo; what depends on the photo alone is computed once."""

    def __init__(self, photo: UInt8[np.ndarray, "h w c"], box: Box, size: int):
        """For frames of `size` pixels. A fourth channel of the photo is its opacity (see `media.image.open_photo`)."""
        self._photo, self._size, self._side = photo, size, box.side
        left, top, right, bottom = _bounds(box, *photo.shape[1::-1])
        self._area = (slice(top, bottom), slice(left, right))
        self._shape = (bottom - top, right - left)
        seen = over_grey(photo)
        self._seen = crop(seen, box, size)
        inward = np.minimum(np.arange(size) + 0.5, size - 0.5 - np.arange(size)) / size
        self._ring = np.minimum(inward[:, None], inward) < 2 * FEATHER
        self._gain, self._offset = np.ones(3, np.float32), np.zeros(3, np.float32)
        if not min(self._shape):
            return
        origin, right_of, below = box.seen(np.array([(left, top), (left + 1, top), (left, top + 1)]) + 0.5, 1)
        self._affine = np.stack([right_of - origin, below - origin, origin]).astype(np.float32)
        self._mask = _mask(self._affine, max(FEATHER, min(0.5, MIN_FEATHER / box.side)), self._shape)
        self._below = jnp.asarray(_packed(seen[self._area], np.full(self._shape, 255, np.uint8)))
        self._shown = self._enlarged(self._seen)
        if photo.shape[2] == 4:
            opacity = photo[self._area][..., 3]
            self._partly = np.nonzero(opacity < 255)
            share = opacity[self._partly].astype(np.float32)[:, None] / 255
            self._loud = np.divide(1, share, out=np.zeros_like(share), where=share > 0)  # what nobody sees stays
            self._grey = seen[self._area][self._partly].astype(np.float32)

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
        """The photo with a frame in its box, equation (1); an array of its own."""
        pasted = self._photo.copy()
        if not min(self._shape):
            return pasted
        blend = np.asarray(_blend(self._enlarged(frame), self._shown, self._below, self._mask))
        area = pasted[self._area]
        if pasted.shape[2] == 4:
            own = area[self._partly][:, :3]
            change = (blend[self._partly] - self._grey) * self._loud
            area[..., :3] = blend
            area[(*self._partly, slice(3))] = np.clip(np.round(own + change), 0, 255).astype(np.uint8)
        else:
            area[...] = blend
        return pasted

    def _enlarged(self, frame: UInt8[np.ndarray, "n n 3"]) -> UInt32[Array, "y x"]:
        """A frame in the photo's colours and its w, at the photo's pixels within the box's bounds."""
        levels = _compare(frame, self._seen, self._gain, self._offset)
        side = min(self._size, max(1, round(self._side)))
        if side < self._size:
            picture = Image.frombytes("CMYK", (self._size, self._size), np.asarray(levels).tobytes())  # any four levels
            picture = picture.resize((side, side), Image.Resampling.LANCZOS)
            levels = np.ascontiguousarray(picture).view(np.uint32)[..., 0]
        return _look_up(_doubled(levels), self._affine, self._shape)


def _packed(colours: UInt8[np.ndarray, "y x 3"], fourth: UInt8[np.ndarray, "y x"]) -> UInt32[np.ndarray, "y x"]:
    return np.concatenate([colours, fourth[..., None]], -1).view(np.uint32)[..., 0]


def _level(packed: UInt32[Array, "y x"], index: int) -> Float[Array, "y x"]:
    return ((packed >> (8 * index)) & 255).astype(jnp.int32).astype(jnp.float32)


def _joined(levels: list[Any]) -> UInt32[Array, "y x"]:
    """Levels of 0 to 255, rounded once, as one number."""
    numbers = [jax.lax.clamp(0, (level + 0.5).astype(jnp.int32), 255) for level in levels]
    return functools.reduce(jnp.bitwise_or, [number << (8 * i) for i, number in enumerate(numbers)]).astype(jnp.uint32)


def _places(affine: Float[Array, "3 2"], shape: tuple[int, int]) -> tuple[Array, Array]:
    """Where the pixels of the bounds lie in the box, whose side is 1: x and y."""
    down, across = (jnp.arange(length, dtype=jnp.float32) for length in shape)
    x, y = (affine[0, i] * across[None] + affine[1, i] * down[:, None] + affine[2, i] for i in (0, 1))
    return x, y


@functools.partial(jax.jit, static_argnums=2)
def _mask(affine: Float[Array, "3 2"], feather: Any, shape: tuple[int, int]) -> Float[Array, "y x"]:
    x, y = _places(affine, shape)
    edge = jnp.minimum(jnp.minimum(x, 1 - x), jnp.minimum(y, 1 - y))
    ramp = jax.lax.clamp(0.0, edge / feather, 1.0)
    return ramp * ramp * (3 - 2 * ramp)


@jax.jit
def _compare(
    frame: UInt8[Array, "n n 3"], seen: UInt8[Array, "n n 3"], gain: Float[Array, "3"], offset: Float[Array, "3"]
) -> UInt32[Array, "n n"]:
    """g F + o and w of equation (1), where |F - C| is a mean over the colours and 3 x 3 pixels."""
    matched = [jax.lax.clamp(0.0, frame[..., i] * gain[i] + offset[i], 255.0) for i in range(3)]
    apart = sum(jnp.abs(level - seen[..., i]) for i, level in enumerate(matched))
    for axis in (0, 1):
        apart = _weighted(apart, axis, (1.0, 1.0, 1.0))
    return _joined([*matched, 255 * jnp.exp(-jnp.square(apart / (27 * LIKENESS)))])


@jax.jit
def _doubled(packed: UInt32[Array, "n n"]) -> UInt32[Array, "m m"]:
    """Bicubic to twice the pixels: a new one lies a quarter beside the centre of an old one."""
    levels = []
    for i in range(4):
        level = _level(packed, i)
        for axis in (0, 1):
            pair = [_weighted(level, axis, weights) for weights in ((*QUARTER, 0.0), (0.0, *QUARTER[::-1]))]
            shape = [length * (2 if i == axis else 1) for i, length in enumerate(level.shape)]
            level = jnp.stack(pair, axis + 1).reshape(shape)
        levels.append(level)
    return _joined(levels)


def _weighted(level: Any, axis: int, weights: tuple[float, ...]) -> Array:
    """A sum over neighbours on an axis, the middle weight being that of the pixel itself; the edge is repeated."""
    reach, length = len(weights) // 2, level.shape[axis]
    padded = jnp.pad(level, [(reach * (i == axis),) * 2 for i in (0, 1)], mode="edge")
    parts = [w * jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k, w in enumerate(weights) if w]
    return functools.reduce(jnp.add, parts)


@functools.partial(jax.jit, static_argnums=2)
def _look_up(fine: UInt32[Array, "m m"], affine: Float[Array, "3 2"], shape: tuple[int, int]) -> UInt32[Array, "y x"]:
    """Bilinear, the edge repeated."""
    side = fine.shape[0]
    x, y = (jax.lax.clamp(0.0, side * place - 0.5, side - 1.0) for place in _places(affine, shape))
    left, top = x.astype(jnp.int32), y.astype(jnp.int32)
    right, bottom = jnp.minimum(left + 1, side - 1), jnp.minimum(top + 1, side - 1)
    across, down = x - left, y - top
    flat = fine.reshape(-1).at
    places = [side * row + column for row in (top, bottom) for column in (left, right)]
    corners = [flat[place].get(mode="promise_in_bounds") for place in places]
    corners = jax.lax.optimization_barrier(corners)  # otherwise each is looked up again for each of its levels
    levels = []
    for i in range(4):
        (a, b), (c, d) = ([_level(corner, i) for corner in pair] for pair in (corners[:2], corners[2:]))
        upper, lower = a + across * (b - a), c + across * (d - c)
        levels.append(upper + down * (lower - upper))
    return _joined(levels)


@jax.jit
def _blend(
    new: UInt32[Array, "y x"], shown: UInt32[Array, "y x"], below: UInt32[Array, "y x"], mask: Float[Array, "y x"]
) -> UInt8[Array, "y x 3"]:
    """Equation (1), with F^ and w in `new`, C^ in `shown` and P in `below`."""
    alike = _level(new, 3) / 255
    levels = []
    for i in range(3):
        photo = _level(below, i)
        levels.append(photo + mask * (_level(new, i) + alike * (photo - _level(shown, i)) - photo))
    return jax.lax.bitcast_convert_type(_joined(levels), jnp.uint8)[..., :3]


def _bounds(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what a box covers of a photo, in whole pixels; empty where it misses it."""
    corners = box.places(np.array([(0, 0), (0, 1), (1, 0), (1, 1)]), 1)
    left, top = (max(0, math.floor(low)) for low in corners.min(0))
    right, bottom = (min(limit, math.ceil(high)) for limit, high in zip((width, height), corners.max(0), strict=True))
    return left, top, max(left, right), max(top, bottom)
