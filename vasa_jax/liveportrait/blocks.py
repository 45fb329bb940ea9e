"""Blocks that several of LivePortrait's networks share: convolution with norm and ReLU, and channels as depth.

The norms are batch norms in evaluation mode: fixed statistics, epsilon 1e-5. Behind a convolution such a norm is one
more factor and offset a channel, y = (k * x) f + g with f = scale / sqrt(variance + epsilon), so it is written as that:
one multiply-add, in the pass that adds the bias and takes the ReLU. It is computed in float32 whatever the features'
dtype, which is kept.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.nn.convolution import Convolution

EPSILON = 1e-5


class BatchNorm(nn.Module):
    """y = x f + g with the stored statistics; parameters `scale`, `bias`, statistics `mean`, `var`, one a channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """Normalise with the stored statistics."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels).value
        variance = self.variable("batch_stats", "var", jnp.ones, channels).value
        factor = scale * jax.lax.rsqrt(variance + EPSILON)
        offset = bias - mean * factor
        row = (1,) * (x.ndim - 1) + channels
        return (x * factor.reshape(row) + offset.reshape(row)).astype(x.dtype)


def plain(
    features: int,
    size: int,
    dimensions: int = 2,
    name: str | None = None,
    bias: bool = True,
    dtype: DTypeLike | None = None,
    repeated: int = 1,
) -> Convolution:
    """A convolution with an odd kernel of equal sides and zero padding to the same size; see `Convolution`."""
    return Convolution(
        features, (size,) * dimensions, use_bias=bias, standardised=False, repeated=repeated, dtype=dtype, name=name
    )


class ConvolutionNorm(nn.Module):
    """Convolution 3x3 (or 3x3x3), batch norm, then the activation."""

    features: int
    dimensions: int = 2
    slope: float = 0.0  # of the activation below zero; 0 is ReLU
    dtype: DTypeLike | None = None
    repeated: int = 1  # times that pixels are repeated along height and width before

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space2 k"]:
        """Convolve, normalise, rectify."""
        convolution = plain(self.features, 3, self.dimensions, "conv", dtype=self.dtype, repeated=self.repeated)
        y = BatchNorm(name="norm")(convolution(x))
        return nn.leaky_relu(y, self.slope) if self.slope else nn.relu(y)


def channels_to_depth(x: Float[Array, "b h w k"], depth: int) -> Float[Array, "b d h w c"]:
    """Channels split as (c, d), c outermost, with d moved to a depth axis."""
    b, h, w, k = x.shape
    return x.reshape(b, h, w, k // depth, depth).transpose(0, 4, 1, 2, 3)


def depth_to_channels(x: Float[Array, "b d h w c"]) -> Float[Array, "b h w k"]:
    """The inverse of `channels_to_depth`."""
    b, d, h, w, c = x.shape
    return x.transpose(0, 2, 3, 4, 1).reshape(b, h, w, c * d)
