"""Driver augmentation: what the motion encoders see is never quite the driver.

MegaPortraits (section 3.3) crops, warps and recolours the driving frame before its motion is encoded, so that looks
cannot travel in the motion code. Here: a random similarity crop, a smooth random warp interpolated from a coarse
lattice of displacements (the role of the thin-plate spline), and colour jitter. The pose encoder gets the recoloured
frame only, since a crop or a warp would change its answer.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from vasa_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Strength of the driver augmentation; all zero turns it off."""

    crop: float = 0.05  # standard deviation of shift (crop units) and of log scale
    warp: float = 0.02  # standard deviation of the lattice displacements, crop units
    colour: float = 0.25  # spread of brightness, contrast and channel gains

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0.0 <= value < 1.0:
                raise UserError(f"augmentation.{name}={value} must lie in [0, 1)")


Key = PRNGKeyArray | UInt32[Array, "2"]


def jitter_colour(key: Key, picture: Float[Array, "h w 3"], strength: float) -> Float[Array, "h w 3"]:
    """Random gain, contrast, channel balance and channel mixing of one picture (0..1), clipped to 0..1."""
    gain, contrast, channel, mix, flip = jax.random.split(key, 5)
    picture = picture * (1.0 + strength * jax.random.uniform(gain, (), minval=-1.0))
    mean = picture.mean()
    picture = mean + (picture - mean) * (1.0 + strength * jax.random.uniform(contrast, (), minval=-1.0))
    picture = picture * (1.0 + strength * jax.random.uniform(channel, (1, 1, 3), minval=-1.0))
    matrix = jnp.eye(3) + 0.5 * strength * jax.random.uniform(mix, (3, 3), minval=-1.0)
    picture = jnp.einsum("hwc,cd->hwd", picture, matrix / matrix.sum(0, keepdims=True))
    grey = picture.mean(-1, keepdims=True)
    picture = grey + (picture - grey) * jax.random.uniform(flip, (), minval=1.0 - 2.0 * strength, maxval=1.0)
    return jnp.clip(picture, 0.0, 1.0)


def random_displacement(key: Key, size: int, config: AugmentationConfig) -> Float[Array, "h w 2"]:
    """Where each pixel of the augmented picture looks, minus where it stands, in crop units: a crop plus a smooth
    warp."""
    shift, log_scale, lattice = jax.random.split(key, 3)
    side = jnp.linspace(-1.0, 1.0, size)
    place = jnp.stack(jnp.meshgrid(side, side), -1)
    crop = place * (jnp.exp(config.crop * jax.random.normal(log_scale, ())) - 1.0)
    crop = crop + config.crop * jax.random.normal(shift, (1, 1, 2))
    coarse = config.warp * jax.random.normal(lattice, (5, 5, 2))
    return crop + jax.image.resize(coarse, (size, size, 2), "cubic")
