"""Convolutions: the two 3-D forms agree, standardised kernels have the statistics they promise."""

import functools
import re

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
    convolve_repeated,
    standardise,
)
from vasa_jax.nn.cost import count_macs
from vasa_jax.nn.resize import repeat

KEY = jax.random.key(0)


def normal(shape):
    """Fixed normal numbers; NumPy's, for speed of compilation."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


@pytest.mark.users_compiler
@pytest.mark.parametrize("outputs, inputs", [(4, 2), (32, 2), (33, 130)])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_depth_split_is_the_3d_convolution_in_value_and_gradient(depth, inputs, outputs):
    """Few outputs, many, and inputs that are filled up."""
    x = normal((2, depth, 4, 3, inputs))
    kernel = normal((3, 3, 3, inputs, outputs)) / inputs**0.5

    def run(function):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(jnp.cos(y))

    reference = jax.jit(functools.partial(run, convolve_3d_direct))()
    for function in (convolve_3d_depth_split, convolve_3d):
        for ours, theirs in zip(jax.jit(functools.partial(run, function))(), reference, strict=True):
            assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("form", [convolve_3d_direct, convolve_3d_depth_split])
@pytest.mark.parametrize("outputs", [2, 40])
def test_zeros_around_a_volume_are_as_told(form, outputs):
    """Two taps, one of them before: the first row and the last column see zeros."""
    kernel = jnp.ones((1, 2, 2, 1, outputs))
    found = form(jnp.ones((1, 2, 3, 3, 1)), kernel, padding=((1, 0), (0, 1)))
    wanted = np.array([[2, 2, 1], [4, 4, 2], [4, 4, 2]])
    assert_allclose(found, np.broadcast_to(wanted[None, None, :, :, None], (1, 2, 3, 3, outputs)))


@pytest.mark.parametrize("outputs, convolutions", [(2, 1), (32, 3)])
def test_accelerators_get_one_3d_convolution_and_cpus_none(outputs, convolutions):
    x, kernel = normal((1, 4, 4, 4, 2)), normal((3, 3, 3, 2, outputs))
    traced = jax.jit(convolve_3d).trace(x, kernel)
    programs = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert {name: text.count("stablehlo.convolution") for name, text in programs.items()} == {
        "cpu": convolutions,
        "cuda": 1,
        "tpu": 1,
    }


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [(), (3,)])
def test_repeated_pixels_are_convolved_at_their_own_size(factor, depth):
    x, kernel = normal((2, *depth, 5, 7, 3)), normal((*(3 for _ in depth), 3, 3, 3, 4))
    convolve, factors = (convolve_3d, (1, factor, factor)) if depth else (convolve_2d, (factor, factor))
    assert_allclose(convolve_repeated(x, kernel, factor), convolve(repeat(x, factors), kernel), atol=2e-5)


@pytest.mark.parametrize("factor, share", [(2, 16 / 36), (4, 25 / 144)])
def test_summed_taps_cost_a_fraction(factor, share):
    x, kernel = jax.ShapeDtypeStruct((1, 32, 32, 64), jnp.float32), jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    short = count_macs(lambda x, k: convolve_repeated(x, k, factor), x, kernel)
    assert short == pytest.approx(share * count_macs(lambda x, k: convolve_2d(repeat(x, (factor,) * 2), k), x, kernel))


def test_a_shifting_kernel_shifts_and_zeros_enter():
    x = jnp.arange(4.0).reshape(1, 4, 1, 1, 1)
    kernel = jnp.zeros((3, 3, 3, 1, 1)).at[2, 1, 1].set(1.0)  # reads the next slice
    assert_allclose(convolve_3d(x, kernel).reshape(-1), [1, 2, 3, 0])


def test_strides_start_at_the_first_pixel():
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    assert_allclose(convolve_2d(x, kernel, 2)[0, :, :, 0], [[0, 2], [8, 10]])


@pytest.mark.parametrize("padding", [None, ((1, 0), (0, 2)), ((0, 0), (3, 1))])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("taps", [(3, 3), (2, 4), (7, 1)])
def test_gradients_are_those_of_the_plain_convolution(taps, stride, padding):
    """Of odd and even kernels, strides that leave pixels over, and uneven zeros."""
    x, kernel = normal((2, 8, 9, 3)), normal((*taps, 3, 5))
    around = padding or [(size // 2,) * 2 for size in taps]

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride,) * 2, around, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    y, pull = jax.vjp(plain, x, kernel)
    ours, our_pull = jax.vjp(lambda x, kernel: convolve_2d(x, kernel, stride, padding), x, kernel)
    assert_allclose(ours, y, rtol=1e-6)
    for one, other in zip(our_pull(jnp.cos(y)), pull(jnp.cos(y)), strict=True):
        assert one.shape == other.shape
        assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_within_control_flow_have_the_form_that_cpus_compute_fast(stride):
    """Elsewhere they stay what XLA knows as gradients of a convolution."""

    def gradients(use, x, kernel):
        loss = jax.grad(lambda x, kernel: jnp.sum(jnp.sin(convolve_2d(x, kernel, stride))), (0, 1))
        return jax.lax.cond(use, loss, lambda *both: both, x, kernel)

    traced = jax.jit(gradients).trace(True, normal((2, 8, 8, 4)), normal((3, 3, 4, 8)))
    forms = {
        name: set(re.findall(r"dim_numbers = (\S.*?->\[.*?\])", traced.lower(lowering_platforms=(name,)).as_text()))
        for name in ("cpu", "cuda", "tpu")
    }
    assert forms["cpu"] == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}
    assert forms["cuda"] == forms["tpu"] and len(forms["cuda"]) == 3


def test_standardised_kernels_have_mean_0_and_variance_2_over_fan_in():
    kernel = standardise(3.0 + 5.0 * normal((3, 3, 8, 6)))
    assert_allclose(kernel.mean((0, 1, 2)), np.zeros(6), atol=1e-6)
    assert_allclose(jnp.square(kernel).mean((0, 1, 2)), np.full(6, 2 / 72), rtol=1e-4)


def test_module_computes_in_its_dtype_with_float32_parameters():
    module = Convolution(4, (3, 3), dtype=jnp.bfloat16)
    y, variables = module.init_with_output(KEY, jnp.ones((1, 4, 4, 2)))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("module", [Convolution(4, (3, 3, 3), stride=2), Convolution(4, (3, 3), stride=2, repeated=2)])
def test_strides_are_for_2d_convolutions_of_pixels_as_they_are(module):
    with pytest.raises(ValueError, match="stride"):
        jax.eval_shape(module.init, KEY, jnp.ones((1, *(4 for _ in module.kernel_size), 2)))


def test_a_module_of_repeated_pixels_enlarges():
    module = Convolution(4, (3, 3, 3), repeated=2, standardised=False)
    x = normal((1, 2, 3, 3, 2))
    y, variables = module.init_with_output(KEY, x)
    assert_allclose(y, convolve_3d(repeat(x, (1, 2, 2)), variables["params"]["kernel"]), atol=1e-5)
