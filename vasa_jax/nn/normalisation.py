"""Group normalisation, plain and adaptive (Wu and He 2018; MegaPortraits' warp generators use the adaptive kind).

For each sample, over the positions and channels of a group: y = (x - mean) / sqrt(variance + eps) * scale + shift.
Computed in float32 at least from one sum and one sum of squares per channel, folded into a single multiply-add, which
XLA runs in two passes over the data on every platform.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.nn.initialisers import scaled_uniform

EPSILON = 1e-5


def choose_groups(features: int, groups: int) -> int:
    """The largest number of groups, at most `groups`, that divides the width."""
    return max(g for g in range(1, min(groups, features) + 1) if features % g == 0)


def group_normalise(
    x: Float[Array, "b *space c"], groups: int, scale: Float[Array, "#b c"], shift: Float[Array, "#b c"]
) -> Float[Array, "b *space c"]:
    """Normalise each group to mean 0 and variance 1, then scale and shift each channel; keeps x's dtype."""
    batch, channels = x.shape[0], x.shape[-1]
    space = tuple(range(1, x.ndim - 1))
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    sums = wide.sum(space), jnp.square(wide).sum(space)
    count = (x.size // (batch * channels)) * (channels // groups)
    mean, square = (s.reshape(batch, groups, -1).sum(-1) / count for s in sums)
    inverse = jax.lax.rsqrt(jax.nn.relu(square - jnp.square(mean)) + EPSILON)
    mean, inverse = (_spread(s, channels // groups) for s in (mean, inverse))
    factor = inverse * scale
    offset = shift - mean * factor
    shape = (batch, *(1,) * len(space), channels)
    return (wide * factor.reshape(shape) + offset.reshape(shape)).astype(x.dtype)


def _spread(x: Float[Array, "b g"], times: int) -> Float[Array, "b c"]:
    """One number per group to one per channel."""
    return jnp.broadcast_to(x[..., None], (*x.shape, times)).reshape(x.shape[0], -1)


class GroupNorm(nn.Module):
    """Group normalisation with a learned scale (from `start`) and shift (from 0) per channel."""

    groups: int = 32  # at most; lowered to divide the width
    start: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """Normalise a batch."""
        features = x.shape[-1]
        scale = self.param("scale", nn.initializers.constant(self.start), (features,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (features,), jnp.float32)
        return group_normalise(x, choose_groups(features, self.groups), scale[None], bias[None])


class AdaptiveGroupNorm(nn.Module):
    """Group normalisation whose scale and shift are 1 + and 0 + a linear function of a code, one per sample.

    The linear map starts random and not near zero: a code must bend the features from the first step on.
    """

    groups: int = 32  # at most; lowered to divide the width

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], code: Float[Array, "b k"]) -> Float[Array, "b *space c"]:
        """Normalise a batch under its codes."""
        features = x.shape[-1]
        code = code.astype(jnp.promote_types(code.dtype, jnp.float32))
        style = nn.Dense(2 * features, kernel_init=scaled_uniform(0.25), name="style")(code)
        scale, shift = jnp.split(style, 2, axis=-1)
        return group_normalise(x, choose_groups(features, self.groups), 1.0 + scale, shift)
