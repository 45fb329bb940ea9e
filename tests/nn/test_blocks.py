"""Normalisation, residual blocks, ResNets, resizing and starting values against statistics and published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.nn.cost import count_parameters
from vasa_jax.nn.initialisers import centre_uniform, scaled_uniform
from vasa_jax.nn.normalisation import AdaptiveGroupNorm, GroupNorm, choose_groups, group_normalise
from vasa_jax.nn.residual import Output, ResidualBlock
from vasa_jax.nn.resize import average_pool, enlarge, max_pool, repeat
from vasa_jax.nn.resnet import ResNet

KEY = jax.random.key(0)


def normal(shape):
    """Fixed normal numbers; NumPy's, for speed of compilation."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


@pytest.mark.users_compiler
def test_groups_become_mean_0_and_variance_1_then_scale_and_shift():
    x = 3.0 + 2.0 * normal((2, 4, 5, 6))
    normalise = jax.jit(group_normalise, static_argnums=1)
    y = normalise(x, 3, jnp.full((1, 6), 2.0), jnp.full((1, 6), 0.5)).reshape(2, 20, 3, 2)
    assert_allclose(y.mean((1, 3)), np.full((2, 3), 0.5), atol=1e-5)
    assert_allclose(y.std((1, 3)), np.full((2, 3), 2.0), atol=1e-4)


def test_group_norm_is_blind_to_scale_and_offset_of_its_input():
    x = normal((2, 3, 4, 5, 8))
    norm = GroupNorm(4)
    variables = norm.init(KEY, x)
    assert_allclose(norm.apply(variables, 10.0 * x + 3.0), norm.apply(variables, x), atol=1e-4)


@pytest.mark.parametrize("odd", [0.0, 1e3])
@pytest.mark.parametrize("ratio", [1.0, 30.0, 1000.0])
def test_a_large_mean_does_not_drown_a_small_variance(ratio, odd):
    """Against float64, for groups of different means; one position may be far from all others, at a border."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 96, 96, 4)) + ratio * np.array([1.0, 1.0, -2.0, -2.0])
    x[:, 0, 0] += odd
    groups = (x := x.astype(np.float32)).astype(np.float64).reshape(2, -1, 2, 2)
    mean, deviation = groups.mean((1, 3), keepdims=True), np.sqrt(groups.var((1, 3), keepdims=True) + 1e-5)
    y = jax.jit(group_normalise, static_argnums=1)(jnp.asarray(x), 2, jnp.ones((1, 4)), jnp.zeros((1, 4)))
    assert_allclose(y, ((groups - mean) / deviation).reshape(x.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape, groups, shared", [((2, 5, 6, 8), 4, True), ((3, 9, 4), 2, False)])
def test_the_written_gradient_of_a_norm_is_its_slope(shape, groups, shared):
    """In all directions at once, for one scale and shift for all samples, and one for each."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        rows = (1 if shared else shape[0], shape[-1])
        start = tuple(jnp.asarray(rng.normal(size=size)) for size in (shape, rows, rows))
        towards = tuple(jnp.asarray(rng.normal(size=size)) for size in (shape, rows, rows))
        weight = jnp.asarray(rng.normal(size=shape))

        @jax.jit
        def total(x, scale, shift):
            return (weight * jnp.sin(group_normalise(x, groups, scale, shift))).sum()

        ahead, behind = (total(*(x + h * d for x, d in zip(start, towards, strict=True))) for h in (1e-5, -1e-5))
        slopes = jax.jit(jax.grad(total, (0, 1, 2)))(*start)
        along = sum((slope * d).sum() for slope, d in zip(slopes, towards, strict=True))
        assert_allclose(along, (ahead - behind) / 2e-5, rtol=1e-7)


def test_codes_bend_adaptive_norms_from_the_start():
    x = jnp.broadcast_to(normal((1, 4, 4, 8)), (2, 4, 4, 8))
    code = normal((2, 16))
    y, _ = jax.jit(AdaptiveGroupNorm(4).init_with_output)(KEY, x, code)
    assert jnp.abs(y[0] - y[1]).mean() > 0.2


def test_number_of_groups_divides_the_width():
    assert [choose_groups(c, 32) for c in (512, 96, 48, 24, 7)] == [32, 32, 24, 24, 7]


def test_residual_blocks_add_a_third_convolution_only_where_the_width_changes():
    x = jnp.ones((1, 2, 2, 2, 4))
    same = jax.eval_shape(ResidualBlock(4, 2).init, KEY, x)["params"]
    wider = jax.eval_shape(ResidualBlock(8, 2).init, KEY, x)["params"]
    assert sorted(same) == ["conv_0", "conv_1", "norm_0", "norm_1"]
    assert sorted(wider) == ["conv_0", "conv_1", "norm_0", "norm_1", "skip"]
    assert wider["skip"]["kernel"].shape == (3, 3, 3, 4, 8)


def test_blocks_keep_their_input_when_their_last_convolution_is_zero():
    x = normal((1, 4, 4, 4))
    params = jax.jit(ResidualBlock(4, 2).init)(KEY, x)["params"]
    params["conv_1"] = jax.tree.map(jnp.zeros_like, params["conv_1"])
    assert_allclose(jax.jit(ResidualBlock(4, 2).apply)({"params": params}, x), x)
    assert_allclose(jax.jit(Output(3, 2, zero=True).init_with_output)(KEY, x)[0], np.zeros((1, 4, 4, 3)))


def test_blocks_start_near_their_skip_and_still_learn():
    x = normal((2, 8, 8, 4))
    block = ResidualBlock(4, 2)
    params = jax.jit(block.init)(KEY, x)["params"]
    apply = jax.jit(lambda p: block.apply({"params": p}, x))
    assert jnp.abs(apply(params) - x).std() < 0.2
    gradient = jax.jit(jax.grad(lambda p: jnp.square(apply(p)).sum()))(params)
    assert all(jnp.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(gradient))


def test_a_skip_that_changes_the_width_starts_by_mixing_channels_cell_by_cell():
    kernel = np.asarray(centre_uniform(2.0)(KEY, (3, 3, 3, 64, 128)))
    assert_allclose(kernel[1, 1, 1].var(), 2 / 64, rtol=0.05)
    assert np.count_nonzero(kernel) == np.count_nonzero(kernel[1, 1, 1])


def test_resnets_have_the_published_sizes_without_classifier():
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    for network, parameters, channels in (
        (ResNet(), 11_176_512, 512),
        (ResNet((3, 4, 6, 3), bottleneck=True), 23_508_032, 2048),
    ):
        features, variables = jax.eval_shape(network.init_with_output, KEY, image)
        assert count_parameters(variables) == parameters
        assert features.shape == (1, 8, 8, channels)


@pytest.mark.users_compiler
def test_averages_and_maxima_of_blocks():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    assert_allclose(average_pool(x, (2, 2))[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert_allclose(average_pool(x, (1, 4))[0, :, 0, 0], [1.5, 5.5, 9.5, 13.5])
    assert_allclose(max_pool(x)[0, :, :, 0], [[5, 7], [13, 15]])
    with pytest.raises(ValueError, match="blocks of 3"):
        average_pool(x, (3, 2))


@pytest.mark.users_compiler
def test_the_gradient_of_a_pooled_norm_is_its_slope():
    """The maximum must know its input again in the backward pass, where a compiler may have rounded it otherwise."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        shapes = (1, 16, 16, 4), (1, 16, 16, 4), (1, 8, 8, 4)
        x, direction, weight = (jnp.asarray(rng.normal(size=shape)) for shape in shapes)

        @jax.jit
        def pooled(x):
            y = group_normalise(x, 2, jnp.ones((1, 4)), jnp.zeros((1, 4)))
            return (weight * max_pool(jax.nn.relu(y))).sum()

        slope = (pooled(x + 1e-6 * direction) - pooled(x - 1e-6 * direction)) / 2e-6
        assert_allclose((jax.jit(jax.grad(pooled))(x) * direction).sum(), slope, rtol=1e-6)


@pytest.mark.users_compiler
def test_the_first_of_equals_gets_the_gradient_of_a_maximum():
    slope = jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 2, 4, 1)))
    assert_allclose(slope[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_enlargement_keeps_linear_ramps_and_repetition_keeps_values():
    ramp = jnp.arange(4.0).reshape(1, 4, 1, 1)
    assert_allclose(enlarge(ramp, (2, 1))[0, :, 0, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    assert_allclose(repeat(ramp, (2, 1))[0, :, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3])
    x = normal((2, 2, 3, 4, 5))
    assert_allclose(average_pool(repeat(x, (2, 1, 2)), (2, 1, 2)), x, atol=1e-6)
    with pytest.raises(ValueError, match="by 3"):
        enlarge(ramp, (3, 1))


def test_starting_values_have_their_variance_and_no_pattern():
    first, second = (np.asarray(scaled_uniform(2.0)(jax.random.key(seed), (3, 3, 64, 128))) for seed in (0, 1))
    n = first.size
    assert_allclose(first.var(), 2 / 576, rtol=0.02)
    assert np.abs(first).max() <= np.sqrt(6 / 576)
    for lag in (1, 2, 128, 8192):
        correlation = np.corrcoef(first.ravel()[lag:], first.ravel()[:-lag])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(n)
    assert abs(first.mean()) < 5 * np.sqrt(2 / 576 / n)
    np.testing.assert_array_equal(first, scaled_uniform(2.0)(jax.random.key(0), (3, 3, 64, 128)))
