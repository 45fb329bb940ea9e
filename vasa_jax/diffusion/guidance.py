"""Classifier-free guidance with several conditions (VASA-1 section 3.2, "Classifier-free guidance").

With a denoiser H, its conditions C and a scale l_c for each condition c,

    x0 = (1 + sum_c l_c) H(x, t, C) - sum_c l_c H(x, t, C without c).                            (1)

The branches of (1) are stacked along the batch and evaluated by one call; a condition of scale 0 costs nothing. Which
branches there are decides a program, their scales do not: they may be traced.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scale = float | Array


def active(scales: Mapping[str, Scale]) -> dict[str, Scale]:
    """The scales that make a branch: traced ones, and numbers other than 0.

    Raises:
        ValueError: a number that is not finite.
    """
    for name, scale in scales.items():
        if not isinstance(scale, jax.Array) and not math.isfinite(scale):
            raise ValueError(f"the guidance scale of {name!r} is {scale}; it must be a finite number")
    return {name: scale for name, scale in scales.items() if isinstance(scale, jax.Array) or scale}


def guided(
    denoise: Callable[[Array, Array, Any], Array],
    conditions: Any,
    without: Callable[[Any, str], Any],
    scales: Mapping[str, Scale],
) -> Callable[[Array, Array], Array]:
    """Close a denoiser over its conditions and guide it by equation (1).

    Args:
        denoise: H(x (b, ...), level (b,), conditions) -> x0 (b, ...); samples of a batch must not see each other.
        conditions: a pytree whose leaves all start with the batch axis.
        without: without(conditions, name) -> the same pytree with the condition `name` nulled.
        scales: l_c by name, traced or any finite numbers; see `active`.

    Returns:
        guided(x (b, ...), level (b,)) -> x0 (b, ...).

    Raises:
        ValueError: a scale that is not finite.
    """
    scales = active(scales)
    branches = [conditions, *(without(conditions, name) for name in scales)]
    stacked = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *branches)
    weights = [1 + sum(scales.values()), *(-scale for scale in scales.values())]

    def denoise_guided(x: Float[Array, " b *rest"], level: Float[Array, " b"]) -> Float[Array, " b *rest"]:
        count = len(branches)
        out = denoise(jnp.concatenate([x] * count), jnp.concatenate([level] * count), stacked)
        weighted = [weight * part for weight, part in zip(weights, jnp.split(out, count), strict=True)]
        return functools.reduce(jnp.add, weighted)

    return denoise_guided
