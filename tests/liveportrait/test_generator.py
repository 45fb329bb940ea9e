"""The saved work gives the same numbers: a 3x3 convolution of repeated pixels, done at their own size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.liveportrait.generator import convolve_repeated
from vasa_jax.nn.convolution import convolve_2d
from vasa_jax.nn.resize import repeat


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_repeated_pixels_are_convolved_at_their_own_size(factor):
    x, kernel = numbers(2, 5, 7, 3), numbers(3, 3, 3, 4)
    wanted = convolve_2d(repeat(x, (factor, factor)), kernel)
    np.testing.assert_allclose(convolve_repeated(x, kernel, factor), wanted, atol=1e-5)


@pytest.mark.parametrize("factor, share", [(2, 16 / 36), (4, 25 / 144)])
def test_summed_taps_cost_a_fraction(factor, share):
    x, kernel = jax.ShapeDtypeStruct((1, 32, 32, 64), jnp.float32), jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    short = jax.jit(lambda x, k: convolve_repeated(x, k, factor)).lower(x, kernel).cost_analysis()
    whole = jax.jit(lambda x, k: convolve_2d(repeat(x, (factor, factor)), k)).lower(x, kernel).cost_analysis()
    assert abs(short["flops"] / whole["flops"] - share) < 0.05 * share
