"""How far two pictures are apart to a frozen network: what it sees, and whom.

Perceptual losses (Johnson et al. 2016; MegaPortraits section 3.3: an image, a face and a gaze network) compare maps of
features; VASA-1's l_cross_id (section 3.1) compares identity codes. The networks are helpers (`pretrained.helper`);
here are the distances between what they give, one number per sample.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.autoencoder.losses import cosine


def perceptual(
    features: Sequence[Float[Array, "b _h _w _c"]], targets: Sequence[Float[Array, "b _h _w _c"]]
) -> Float[Array, " b"]:
    """Mean L1 between the features of a picture and those of its target, averaged over the layers, which count alike.

    Args:
        features: maps of the picture, one a layer.
        targets: of the target, which gets no gradient.

    Returns:
        One number a sample, in float32 at least; 0 for equal pictures.
    """
    layers = []
    for got, wanted in zip(features, targets, strict=True):
        wide = jnp.promote_types(got.dtype, jnp.float32)
        difference = got.astype(wide) - jax.lax.stop_gradient(wanted).astype(wide)
        layers.append(jnp.abs(difference).mean((1, 2, 3)))
    return jnp.stack(layers).mean(0)


def identity_distance(codes: Float[Array, "b k"], targets: Float[Array, "b k"]) -> Float[Array, " b"]:
    """1 - cosine between identity codes: 0 for the same person, about 1 for two, 2 at most; the targets get no
    gradient."""
    return 1.0 - cosine(codes, jax.lax.stop_gradient(targets))
