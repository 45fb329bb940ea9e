"""Losses of the two players of stage 1, from what the discriminators say of pictures.

MegaPortraits (section 3.3, weights 1 and 40): the hinge loss (Lim and Ye 2017, arXiv 1705.02894) and feature matching
(pix2pixHD, Wang et al. 2018). Every function gives one number per sample, means over patches, layers and scales, so
that a weight means the same whatever their number. Stopping gradients into the other player is the caller's part, but
for the real side of feature matching, which is a target.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.autoencoder.discriminator import Scores


def hinge_discriminator(real: tuple[Scores, ...], fake: tuple[Scores, ...]) -> Float[Array, " b"]:
    """What the discriminator minimises: max(0, 1 - logit) of real patches plus max(0, 1 + logit) of fake ones; 0 where
    all are apart by the margin, 2 for a discriminator that says 0."""
    return _mean([_each(jax.nn.relu(1.0 - a.logits) + jax.nn.relu(1.0 + b.logits)) for a, b in _pairs(real, fake)])


def hinge_generator(fake: tuple[Scores, ...]) -> Float[Array, " b"]:
    """What the autoencoder minimises: the negative mean logit of its pictures."""
    return _mean([_each(-scores.logits) for scores in fake])


def feature_matching(real: tuple[Scores, ...], fake: tuple[Scores, ...]) -> Float[Array, " b"]:
    """L1 between the discriminators' features of a picture and of its target, in float32 at least."""
    return _mean(
        [
            _each(jnp.abs(_wide(got) - _wide(jax.lax.stop_gradient(wanted))))
            for a, b in _pairs(real, fake)
            for wanted, got in zip(a.features, b.features, strict=True)
        ]
    )


def accuracy(real: tuple[Scores, ...], fake: tuple[Scores, ...]) -> Float[Array, " b"]:
    """Share of patches on the right side of 0: 1 for a discriminator that tells all apart, 0.5 for one that guesses."""
    sides = [_each(jnp.sign(a.logits)) - _each(jnp.sign(b.logits)) for a, b in _pairs(real, fake)]
    return 0.5 + 0.25 * _mean(sides)


def _pairs(real: tuple[Scores, ...], fake: tuple[Scores, ...]) -> list[tuple[Scores, Scores]]:
    return list(zip(real, fake, strict=True))


def _each(x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    return x.mean((1, 2, 3))


def _mean(parts: list[Float[Array, " b"]]) -> Float[Array, " b"]:
    return jnp.stack(parts).mean(0)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
