"""Resizing by whole factors: averages downwards, nearest or linear upwards, by reshapes and shifted sums alone."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def average_pool(x: Float[Array, "b *space c"], factors: tuple[int, ...]) -> Float[Array, "b *smaller c"]:
    """Mean over blocks of the given size, one factor per spatial axis.

    Raises:
        ValueError: a factor does not divide its axis.
    """
    shape = [x.shape[0]]
    for size, factor in zip(x.shape[1:-1], factors, strict=True):
        if size % factor:
            raise ValueError(f"an axis of {size} cells cannot be averaged in blocks of {factor}")
        shape += [size // factor, factor]
    return x.reshape(*shape, x.shape[-1]).mean(tuple(range(2, 2 * len(factors) + 1, 2)))


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Maximum over blocks of 2x2; sizes must be even. The first of equals gets the gradient.

    Written as selections: the derivative of JAX's own maximum asks which input *equals* the result, and where a
    compiler computes x once more beside its gradient, with other rounding, none does. Then gradients vanish, or are
    0 / 0.
    """
    for axis in (1, 2):
        pair = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
        first, second = (jax.lax.index_in_dim(pair, place, axis + 1, keepdims=False) for place in (0, 1))
        x = jnp.where(first >= second, first, second)
    return x


def repeat(x: Float[Array, "b *space c"], factors: tuple[int, ...]) -> Float[Array, "b *larger c"]:
    """Nearest-neighbour enlargement, one factor per spatial axis."""
    for axis, factor in enumerate(factors, start=1):
        x = jnp.repeat(x, factor, axis=axis) if factor > 1 else x
    return x


def enlarge(x: Float[Array, "b *space c"], factors: tuple[int, ...]) -> Float[Array, "b *larger c"]:
    """Linear enlargement by 1 or 2 per spatial axis; new cells sit at quarter distances, borders are clamped.

    Raises:
        ValueError: a factor is neither 1 nor 2.
    """
    for axis, factor in enumerate(factors, start=1):
        if factor == 2:
            x = _double(x, axis)
        elif factor != 1:
            raise ValueError(f"linear enlargement by {factor} is not offered: use 1 or 2 per axis")
    return x


def _double(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    cut = partial(jax.lax.slice_in_dim, x, axis=axis)  # slices, not a look-up: no scatter in the gradient
    before = jnp.concatenate([cut(0, 1), cut(0, size - 1)], axis=axis)
    after = jnp.concatenate([cut(1, size), cut(size - 1, size)], axis=axis)
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
