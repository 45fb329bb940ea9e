"""Embeddings of numbers: sinusoids of a scalar (Vaswani et al. 2017, section 3.5) and a two-layer map of a vector.

A scalar p becomes the pairs cos(p w_i), sin(p w_i) at frequencies w_i = 10000^(-i / half), i = 0..half-1: neighbours in
p are neighbours in the embedding at every scale.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.nn.gathering import Dense


def sinusoids(value: Float[Array, " b"], width: int) -> Float[Array, "b c"]:
    """Embed scalars as `width` sinusoids, cosines first; the fastest turns once in 2 pi of `value`.

    Raises:
        ValueError: an odd width.
    """
    if width % 2:
        raise ValueError(f"{width=} must be even: half the channels are cosines, half are sines")
    frequency = jnp.asarray(10_000.0 ** (-np.arange(width // 2) / (width // 2)), value.dtype)
    angle = value[:, None] * frequency[None]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class TwoLayer(nn.Module):
    """Linear, SiLU, Linear on the last axis: (..., any) -> (..., width).

    hidden: channels between the two. width: channels out. dtype: of the computation; None follows input and parameters.
    """

    hidden: int
    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch o"]:
        x = Dense(self.hidden, dtype=self.dtype, name="inner")(x)
        return Dense(self.width, dtype=self.dtype, name="outer")(nn.silu(x))
