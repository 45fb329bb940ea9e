"""Convolutions: the two 3-D forms agree, standardised kernels have the statistics they promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.nn.convolution import (
    Convolution,
    convolve_2d,
    convolve_3d,
    convolve_3d_depth_split,
    convolve_3d_direct,
    standardise,
)

KEY = jax.random.key(0)


def normal(shape):
    """Fixed normal numbers; NumPy's, for speed of compilation."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


@pytest.mark.users_compiler
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_depth_split_is_the_3d_convolution_in_value_and_gradient(depth):
    x = normal((2, depth, 4, 3, 2))
    kernel = normal((3, 3, 3, 2, 4))

    def run(function):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(jnp.cos(y))

    reference = jax.jit(functools.partial(run, convolve_3d_direct))()
    for function in (convolve_3d_depth_split, convolve_3d):
        for ours, theirs in zip(jax.jit(functools.partial(run, function))(), reference, strict=True):
            assert_allclose(ours, theirs, atol=2e-4)


def test_accelerators_get_one_3d_convolution_and_cpus_none():
    shapes = jax.ShapeDtypeStruct((1, 4, 4, 4, 2), jnp.float32), jax.ShapeDtypeStruct((3, 3, 3, 2, 2), jnp.float32)
    traced = jax.jit(convolve_3d).trace(*shapes)
    programs = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert {name: text.count("stablehlo.convolution") for name, text in programs.items()} == {
        "cpu": 3,
        "cuda": 1,
        "tpu": 1,
    }


def test_a_shifting_kernel_shifts_and_zeros_enter():
    x = jnp.arange(4.0).reshape(1, 4, 1, 1, 1)
    kernel = jnp.zeros((3, 3, 3, 1, 1)).at[2, 1, 1].set(1.0)  # reads the next slice
    assert_allclose(convolve_3d(x, kernel).reshape(-1), [1, 2, 3, 0])


def test_strides_start_at_the_first_pixel():
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    assert_allclose(convolve_2d(x, kernel, 2)[0, :, :, 0], [[0, 2], [8, 10]])


def test_standardised_kernels_have_mean_0_and_variance_2_over_fan_in():
    kernel = standardise(3.0 + 5.0 * normal((3, 3, 8, 6)))
    assert_allclose(kernel.mean((0, 1, 2)), np.zeros(6), atol=1e-6)
    assert_allclose(jnp.square(kernel).mean((0, 1, 2)), np.full(6, 2 / 72), rtol=1e-4)


def test_module_computes_in_its_dtype_with_float32_parameters():
    module = Convolution(4, (3, 3), dtype=jnp.bfloat16)
    y, variables = module.init_with_output(KEY, jnp.ones((1, 4, 4, 2)))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_a_stride_in_3d_is_refused():
    with pytest.raises(ValueError, match="stride"):
        jax.eval_shape(Convolution(4, (3, 3, 3), stride=2).init, KEY, jnp.ones((1, 4, 4, 4, 2)))
