"""Group normalisation, plain and adaptive (Wu and He 2018; MegaPortraits' warp generators use the adaptive kind).

For each sample, over the positions and channels of a group: y = (x - mean) / sqrt(variance + eps) * scale + shift.
Computed in float32 at least from one sum and one sum of squares per channel, which XLA runs in two passes over the data
on every platform. The sums are of x less a guess of its mean, from a few positions ("shifted data", Chan, Golub and
LeVeque 1983): the squares of a large mean would drown a small variance. The backward pass is written out, so that it
keeps x alone.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.nn.gathering import Dense
from vasa_jax.nn.initialisers import scaled_uniform

EPSILON = 1e-5
PROBES = 8
"""Positions along each axis that the guess of the mean is taken from."""


def choose_groups(features: int, groups: int) -> int:
    """The largest number of groups, at most `groups`, that divides the width."""
    return max(g for g in range(1, min(groups, features) + 1) if features % g == 0)


@functools.partial(jax.jit, static_argnums=1)  # traced once for each shape, however often a network has it
def group_normalise(
    x: Float[Array, "b *space c"], groups: int, scale: Float[Array, "#b c"], shift: Float[Array, "#b c"]
) -> Float[Array, "b *space c"]:
    """Normalise each group to mean 0 and variance 1, then scale and shift each channel; keeps x's dtype."""
    return jnp.asarray(_group_normalise(x, groups, scale, shift))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _group_normalise(x: Array, groups: int, scale: Array, shift: Array) -> Array:
    return _forward(x, groups, scale, shift)[0]


def _forward(x: Array, groups: int, scale: Array, shift: Array) -> tuple[Array, Any]:
    wide, space = _wide(x), tuple(range(1, x.ndim - 1))
    guess = _guess(wide, groups)
    moved = wide - _over(guess, x)
    mean, square = (_group_mean(s, x, groups) for s in (moved.sum(space), jnp.square(moved).sum(space)))
    inverse = jax.lax.rsqrt(jax.nn.relu(square - jnp.square(mean)) + EPSILON)
    mean = guess + mean
    y = (wide - _over(mean, x)) * _over(inverse * scale, x) + _over(shift, x)
    return y.astype(x.dtype), (x, mean, inverse, scale, shift)


def _backward(groups: int, kept: Any, slope: Array) -> tuple[Array, Array, Array]:
    """With n = (x - mean) / deviation: dx = (scale dy - mean(scale dy) - n mean(scale dy n)) / deviation."""
    x, mean, inverse, scale, shift = kept
    wide, space = _wide(slope), tuple(range(1, x.ndim - 1))
    normal = (_wide(x) - _over(mean, x)) * _over(inverse, x)
    of_shift, of_scale = wide.sum(space), (wide * normal).sum(space)
    level, along = (_group_mean(scale * s, x, groups) for s in (of_shift, of_scale))
    of_x = (wide * _over(scale, x) - _over(level, x) - normal * _over(along, x)) * _over(inverse, x)
    return of_x.astype(x.dtype), _like(of_scale, scale), _like(of_shift, shift)


_group_normalise.defvjp(_forward, _backward)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _guess(wide: Float[Array, "b *space c"], groups: int) -> Float[Array, "b c"]:
    """About the mean of each group, for each channel; from places off the borders, where padding is felt."""
    steps = [max(1, length // PROBES) for length in wide.shape[1:-1]]
    few = wide[:, *(slice(step // 2, None, step) for step in steps)]
    return _group_mean(few.sum(tuple(range(1, few.ndim - 1))), few, groups)


def _group_mean(sums: Float[Array, "b c"], x: Float[Array, "b *space c"], groups: int) -> Float[Array, "b c"]:
    """The means of groups from the sums of channels over the positions of x, one number per channel."""
    batch, channels = sums.shape
    count = (x.size // (batch * channels)) * (channels // groups)
    return _spread(sums.reshape(batch, groups, -1).sum(-1) / count, channels // groups)


def _over(s: Float[Array, "#b c"], x: Float[Array, "b *space c"]) -> Array:
    """One number per channel, ready to broadcast over the positions of x."""
    return s.reshape(s.shape[0], *(1,) * (x.ndim - 2), s.shape[-1])


def _like(slope: Float[Array, "b c"], parameter: Float[Array, "#b c"]) -> Array:
    """The slope of a parameter that all samples may share."""
    return (slope if len(parameter) == len(slope) else slope.sum(0, keepdims=True)).astype(parameter.dtype)


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
        style = Dense(2 * features, kernel_init=scaled_uniform(0.25), name="style")(code)
        scale, shift = jnp.split(style, 2, axis=-1)
        return group_normalise(x, choose_groups(features, self.groups), 1.0 + scale, shift)
