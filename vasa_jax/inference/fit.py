"""Fitting a portrait to its photo: steps of Adam on the canonical volume and on the decoder (VASA-1 encodes only).

An encoder meets a new face in one look and blurs what it has not learnt. Here the volume V and the decoder's parameters
D are pulled from what the encoder gave, V_0 and D_0, towards the photo I with its own motion (p, e):

    loss(V, D) = L(G(V, D; p', e), move(I; p, p')) + w |low(G(V, D; m) - G(V_0, D_0; m))|^2                      (1)

p' is p and p moved at random in the picture's plane, for which `geometry.picture.in_plane_grid` knows the true picture;
m is generated motion, for which nobody does: there the colours of cells of some pixels (low) stay what they were, and
detail is free. Without both terms a portrait's cells changed four times as much there, for 1 dB at the photo itself. L
is multi-scale L1 of pictures and of their differences (`autoencoder.losses`), and what lies outside of the photo has no
weight.

What a fit gains is the photo's own detail near the photo's pose and expression, and less the farther away
(`benchmarks/fit.py`), so nobody gets it unasked.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vasa_jax.arrays import POSE_DIM, Motion, Portrait
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.losses import multi_scale_l1
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.errors import UserError
from vasa_jax.geometry.picture import in_plane_grid, sample_2d
from vasa_jax.inference.vasa import FaceModel, FittedPortrait, Rendered

RATES = {"volume": 2e-3, "decoder": 1e-4}
"""First learning rates of Adam; both fall to 0 along half a cosine."""
MOVED = 2
"""Moved copies of the photo a step, beside the photo itself."""
REACH = (0.0, 0.0, 0.15, 0.1, 0.1, 0.1)
"""How far they are moved at most, in the units of a pose."""
SCALES = 3
"""Octaves of L."""
GENERATED = 1
"""Generated motions a step."""
CELLS = 8
"""Cells of `low` along one side of a picture."""
EDGE = 1e-5
"""By how much a place may miss the picture's edge through rounding alone, in crop units."""
LOW = 20.0
"""w of equation 1."""


class Fitted(NamedTuple):
    """A portrait that has been fitted; its identity map is the encoder's.

    before, after: PSNR in dB of the photo at its own motion, of the encoder alone and fitted.
    """

    portrait: FittedPortrait
    before: float
    after: float


def fit(
    face: FaceModel,
    portrait: Portrait,
    picture: Float[Array, "1 h w 3"],
    motions: Motion,
    *,
    steps: int,
    key: Key[Array, ""],
    progress: Callable[[int], None] = lambda done: None,
) -> Fitted:
    """Equation 1, minimised from the encoder's portrait; the same arguments give the same result.

    Args:
        face: the model, which stays as it is.
        portrait: `face.encode(picture)`.
        picture: the photo as the model sees it, in [0, 1], side `face.config.image_size`.
        motions: raw generated motion, (m, 6) and (m, z), from which each step draws.
        steps: of Adam, 1 or more.
        key: of the moves and of the draws.
        progress: called with the number of steps done.

    Raises:
        UserError: fewer steps than 1.
    """
    if steps < 1:
        raise UserError(f"fit {steps} is out of range; give 1 or more steps, or leave it out")
    own = face.motion(picture)
    examples = Motion(*(jnp.asarray(part, jnp.float32) for part in motions))
    parts = {"volume": portrait.volume.astype(jnp.float32), "decoder": face.params["decoder"]}
    fixed = (face.params, portrait, jnp.asarray(picture, jnp.float32), own, examples)
    moments = _moments(parts)
    # A loop and not a scan: in a scan, XLA's convolutions take ten times as long on a CPU.
    for step in range(steps):
        drawn = jax.random.fold_in(key, step)
        parts, moments = jax.block_until_ready(
            _step(face.config, parts, moments, fixed, drawn, np.float32(step / steps))
        )
        progress(step + 1)
    volume = parts["volume"].astype(portrait.volume.dtype)
    fitted = FittedPortrait(portrait._replace(volume=volume), parts["decoder"])
    before, after = (_psnr(face.render(each, own), picture) for each in (portrait, fitted))
    return Fitted(fitted, before, after)


def low(picture: Float[Array, "b h w 3"]) -> Float[Array, "b cells cells 3"]:
    """Mean colours of the equal cells of square pictures: 8 a side, or 4 where 8 do not divide it."""
    b, side, _, channels = picture.shape
    cells = math.gcd(CELLS, side)
    return picture.reshape(b, cells, side // cells, cells, side // cells, channels).mean((2, 4))


def moved(
    picture: Float[Array, "1 h w 3"], pose: Float[Array, "n 6"]
) -> tuple[Float[Array, "n h w 3"], Float[Array, "n h w 1"]]:
    """A picture of a head at pose[0] as it looks at every pose, which differ in the plane alone; and its weight, 0 for
    what lies outside of the picture and 1 elsewhere."""
    place = in_plane_grid(pose[:1], pose, picture.shape[1])
    inside = (jnp.abs(place) <= 1.0 + EDGE).all(-1, keepdims=True)
    return sample_2d(jnp.broadcast_to(picture, (len(pose), *picture.shape[1:])), place), inside * 1.0


def loss(
    config: AutoencoderConfig,
    parts: dict[str, Any],
    params: dict[str, Any],
    portrait: Portrait,
    picture: Float[Array, "1 h w 3"],
    shown: Motion,
    free: Motion,
) -> Float[Array, ""]:
    """Equation 1.

    Args:
        config, params: of the network as it came.
        parts: `volume` and `decoder`, which are fitted.
        portrait: the encoder's.
        picture: the photo.
        shown: the photo's own motion first, then moved in the plane.
        free: generated motion.
    """
    render: Any = functools.partial(Autoencoder(config).apply, method="render")
    target, weight = moved(picture, shown.pose)
    both = Motion(*(jnp.concatenate(pair) for pair in zip(shown, free, strict=True)))
    fitted = portrait._replace(volume=parts["volume"].astype(portrait.volume.dtype))
    pictures = render({"params": params | {"decoder": parts["decoder"]}}, fitted, both)
    sharp, gradient = multi_scale_l1(pictures[: len(target)], target, weight, SCALES)
    change = low(pictures[len(target) :]) - low(render({"params": params}, portrait, free))
    return (sharp + gradient).mean() + LOW * jnp.square(change).mean()


@functools.partial(jax.jit, static_argnums=0)
def _step(
    config: AutoencoderConfig,
    parts: dict[str, Any],
    moments: Any,
    fixed: tuple[dict[str, Any], Portrait, Array, Motion, Motion],
    key: Key[Array, ""],
    progress: Float[Array, ""],
) -> tuple[dict[str, Any], Any]:
    """One step of Adam; `progress` is the share of the steps that are done."""
    params, portrait, picture, own, examples = fixed
    move, draw = jax.random.split(key)
    offset = jnp.asarray(REACH)[None] * jax.random.uniform(move, (MOVED, POSE_DIM), minval=-1.0)
    pose = jnp.concatenate([own.pose, own.pose + offset])
    shown = Motion(pose, jnp.tile(own.dynamics, (len(pose), 1)))
    drawn = jax.random.randint(draw, (GENERATED,), 0, len(examples.pose))
    free = Motion(*(part[drawn] for part in examples))
    slope = jax.grad(loss, argnums=1)(config, parts, params, portrait, picture, shown, free)
    change, moments = _adam().update(slope, moments)
    share = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    follow = {
        name: jax.tree.map(lambda x, d, rate=rate: x - share * rate * d, parts[name], change[name])
        for name, rate in RATES.items()
    }
    return follow, moments


@jax.jit
def _moments(parts: dict[str, Any]) -> Any:
    return _adam().init(parts)


def _adam() -> Any:
    """Imported where it is used, since no video without a fit should wait for it."""
    import optax

    return optax.scale_by_adam()


def _psnr(rendered: Rendered, picture: Float[Array, "1 h w 3"]) -> float:
    """PSNR in dB of one rendered picture."""
    square = np.square(np.asarray(rendered[0], np.float64) / 255.0 - np.asarray(picture, np.float64)).mean()
    return float(-10.0 * np.log10(square + 1e-10))
