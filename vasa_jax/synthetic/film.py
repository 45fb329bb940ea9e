"""What happens to a picture after it was drawn: the painter's brush, the draughtsman's line, the camera and its codec.

Painted: the filter of Kuwahara et al. (1976), which gives a pixel the mean of the calmest of the four squares that meet
in it; flat patches with sharp borders, as a brush leaves them. Drawn: ink where a picture is darker than its
surroundings (the difference of two Gaussians, Winnemoller et al. 2012), on paper that keeps some of the colours, in
steps. Then tone and colour, blur and noise, and the block transform of JPEG: 8 x 8 cosines of luma and of halved
chroma, rounded to steps that grow with the frequency (i, j) as 1 + i + j. Pictures are (h, w, 3) in 0..1.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vasa_jax.synthetic.looks import LUMA, Look

TAPS = 4  # of a Gaussian, on either side
BLOCK = 8
_COSINES = np.cos(np.pi * (2 * np.arange(BLOCK)[None] + 1) * np.arange(BLOCK)[:, None] / (2 * BLOCK))
_COSINES = np.float32(_COSINES * np.where(np.arange(BLOCK) == 0, np.sqrt(1 / BLOCK), np.sqrt(2 / BLOCK))[:, None])
_STEPS = np.float32(1.0 + np.add.outer(np.arange(BLOCK), np.arange(BLOCK)))


def _luma(picture: Float[Array, "h w 3"]) -> Float[Array, "h w"]:
    red, green, blue = (weight * picture[..., k] for k, weight in enumerate(LUMA))
    return red + green + blue


def _window(planes: Array, weights: Array, axis: int, pads: tuple[int, int]) -> Array:
    """Weighted sums of neighbours along an axis, of planes that repeat their borders."""
    wide = jnp.pad(planes, [pads if k == axis else (0, 0) for k in range(planes.ndim)], mode="edge")
    size = wide.shape[axis] - len(weights) + 1
    total = jnp.zeros_like(jax.lax.slice_in_dim(wide, 0, size, axis=axis))
    for k in range(len(weights)):
        total = total + weights[k] * jax.lax.slice_in_dim(wide, k, k + size, axis=axis)
    return total


def gaussian(planes: Float[Array, "h w *c"], sigma: Float[Array, ""]) -> Float[Array, "h w *c"]:
    """Blur by a standard deviation in pixels, up to about 2."""
    weights = jnp.exp(-0.5 * (jnp.arange(-TAPS, TAPS + 1) / (sigma + 1e-3)) ** 2)
    weights = weights / weights.sum()
    return _window(_window(planes, weights, 0, (TAPS, TAPS)), weights, 1, (TAPS, TAPS))


def paint(picture: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Kuwahara's filter, of squares whose side is a 43rd of the picture's."""
    size = picture.shape[0]
    reach = max(1, round(size / 64))
    light = _luma(picture)
    planes = jnp.concatenate([picture, light[..., None], (light * light)[..., None]], -1)
    even = jnp.full(reach + 1, 1.0 / (reach + 1))
    means = _window(_window(planes, even, 0, (reach, reach)), even, 1, (reach, reach))  # of squares, by first pixel
    best, calmest = None, None
    for y in (0, reach):
        for x in (0, reach):
            here = means[y : y + size, x : x + size]
            spread = here[..., 4] - here[..., 3] ** 2
            if best is None or calmest is None:
                best, calmest = here, spread
            else:
                calmer = spread < calmest
                best, calmest = jnp.where(calmer[..., None], here, best), jnp.where(calmer, spread, calmest)
    assert best is not None
    return best[..., :3]


def draw(look: Look, picture: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Ink lines on paper, with a wash of the colours."""
    size = picture.shape[0]
    light = _luma(picture)
    near, far = gaussian(light, jnp.float32(0.005 * size)), gaussian(light, jnp.float32(0.011 * size))
    line = jnp.clip(14.0 * (far - near) - 0.10, 0.0, 1.0)
    dark = jnp.clip(1.6 * (0.42 - near), 0.0, 0.75)
    cover = jnp.maximum(line, dark)[..., None]
    flat = jnp.round(5.0 * picture) / 5.0
    sheet = look.paper[None, None] * (1.0 - look.wash * (1.0 - flat))
    return sheet + cover * (look.ink[None, None] - sheet)


def compress(picture: Float[Array, "h w 3"], loss: Float[Array, ""]) -> Float[Array, "h w 3"]:
    """What is left of a picture in the blocks of JPEG.

    Args:
        picture: of any size.
        loss: step of the lowest frequency of luma, of 0..1; chroma's is half as large again.
    """
    height, width = picture.shape[:2]
    pads = [(0, -side % (2 * BLOCK)) for side in (height, width)]
    whole = jnp.pad(picture, (*pads, (0, 0)), mode="edge")
    light = _luma(whole)
    planes = [light - 0.5]
    for channel in (0, 2):
        chroma = whole[..., channel] - light
        h, w = chroma.shape
        planes.append(chroma.reshape(h // 2, 2, w // 2, 2).mean((1, 3)))
    kept = [_blocks(plane, step * loss) for plane, step in zip(planes, (1.0, 1.5, 1.5), strict=True)]
    light, red, blue = kept[0] + 0.5, *(jnp.repeat(jnp.repeat(plane, 2, 0), 2, 1) for plane in kept[1:])
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]
    return jnp.stack([light + red, light + green, light + blue], -1)[:height, :width]


def _blocks(plane: Float[Array, "h w"], step: Float[Array, ""]) -> Float[Array, "h w"]:
    h, w = plane.shape
    tiles = plane.reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK)
    numbers = jnp.einsum("iy,aybx,jx->aibj", _COSINES, tiles, _COSINES)
    steps = (step + 1e-6) * jnp.asarray(_STEPS)[None, :, None, :]
    rounded = jnp.round(numbers / steps) * steps
    return jnp.einsum("iy,aibj,jx->aybx", _COSINES, rounded, _COSINES).reshape(h, w)


def _finish(look: Look, picture: Float[Array, "h w 3"], key: Key[Array, ""]) -> Float[Array, "h w 3"]:
    styles = (lambda p: p, paint, partial(draw, look), lambda p: p)
    picture = jax.lax.switch(look.style, styles, picture)

    def tone(p: Array) -> Array:
        light = _luma(p)[..., None]
        return jnp.clip(light + look.saturation * (p - light), 1e-4, 1.0) ** look.gamma

    toned = (look.gamma != 1.0) | (look.saturation != 1.0)
    picture = jax.lax.cond(toned, tone, lambda p: p, picture)
    sigma = look.blur * picture.shape[0]
    picture = jax.lax.cond(look.blur > 0.0, lambda p: gaussian(p, sigma), lambda p: p, picture)

    def noisy(p: Array) -> Array:
        one, two = jax.random.uniform(key, (2, *p.shape[:2]), minval=-1.0)
        return p + look.noise * (one + two)[..., None] * jnp.sqrt(1.5)

    picture = jax.lax.cond(look.noise > 0.0, noisy, lambda p: p, picture)
    picture = jax.lax.cond(look.loss > 0.0, lambda p: compress(p, look.loss), lambda p: p, picture)
    return jnp.clip(picture, 0.0, 1.0)


@jax.jit
def _film(look: Look, pictures: Float[Array, "b h w 3"], keys: Key[Array, " b"]) -> Float[Array, "b h w 3"]:
    return jax.lax.map(lambda all_three: _finish(*all_three), (look, pictures, keys))


def finish(look: Look, pictures: Float[Array, "*b h w 3"], keys: Key[Array, "*b"]) -> Float[Array, "*b h w 3"]:
    """Pictures of `render.render` as their looks record them.

    Args:
        look: fields with leading shape (*b).
        pictures: in 0..1.
        keys: typed JAX keys, one a frame, for the sensor's noise.

    Returns:
        Pictures in 0..1; those of plain looks as they came.
    """
    looks = jax.tree.map(lambda x: x.reshape(-1, *x.shape[keys.ndim :]), look)
    flat = _film(looks, pictures.reshape(-1, *pictures.shape[keys.ndim :]), keys.reshape(-1))
    return flat.reshape(pictures.shape)
