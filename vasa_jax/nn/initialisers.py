"""Random starting values that compile quickly.

XLA's CPU back end spends about half a second on the threefry program of every single parameter, minutes for a network
of hundreds. Weights need no cryptographic stream: here an integer hash of (element number, parameter's key) gives the
bits in a dozen operations, equal on every platform. The hash is the two-round multiply and shift mixer of 32-bit words
that is common in hash tables; parameters get independent keys from Linen as usual.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def scaled_uniform(scale: float = 1.0) -> Callable:
    """An initialiser: uniform, mean 0, variance scale / fan_in, fan_in being all axes but the last.

    A scale of 1 is LeCun's initialisation and 2 is He's.
    """

    def initialise(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return _hashed(key, tuple(shape), math.sqrt(3.0 * scale / math.prod(shape[:-1])), dtype)

    return initialise


def centre_uniform(scale: float = 1.0) -> Callable:
    """An initialiser of convolutions: `scaled_uniform` at the centre tap, zero at the others, so that the layer starts
    by mixing channels cell by cell."""

    def initialise(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        *taps, before, after = shape
        centre = scaled_uniform(scale)(key, (*(1 for _ in taps), before, after), dtype)
        return jnp.pad(centre, [*((size // 2, size // 2) for size in taps), (0, 0), (0, 0)])

    return initialise


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _hashed(key: jax.Array, shape: tuple[int, ...], bound: float, dtype: DTypeLike) -> jax.Array:
    """Numbers that are uniform in [-bound, bound)."""
    words = jax.random.key_data(key).reshape(-1).astype(jnp.uint32)
    x = jax.lax.iota(jnp.uint32, math.prod(shape)) * jnp.uint32(0x9E3779B9) + words[0]
    for multiplier in (0x7FEB352D, 0x846CA68B, 0x7FEB352D):
        x = (x ^ (x >> 16) ^ words[-1]) * jnp.uint32(multiplier)
    x = x ^ (x >> 16)
    unit = jax.lax.bitcast_convert_type(x, jnp.int32).astype(jnp.float32) * jnp.float32(2.0**-31)
    return (bound * unit).astype(dtype).reshape(shape)
