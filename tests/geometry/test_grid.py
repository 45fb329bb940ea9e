"""The grid sample against functions that trilinear interpolation reproduces exactly, and its conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.geometry.grid import grid_sample_3d, identity_grid, resize_linear
from vasa_jax.geometry.picture import sample_2d
from vasa_jax.training.hlo import Module

sample = jax.jit(grid_sample_3d)


def normal(shape):
    """Fixed normal numbers; NumPy's, for speed of compilation."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def uniform(shape):
    """Fixed numbers between -1 and 1."""
    return jnp.asarray(np.random.default_rng(1).uniform(-1.0, 1.0, shape).astype(np.float32))


def trilinear(points):
    """A function with all products of coordinates up to xyz: what trilinear interpolation reproduces exactly."""
    x, y, z = (points[..., i] for i in range(3))
    return jnp.stack([1 + x - 2 * y + 3 * z, x * y + y * z, x * y * z - x], axis=-1)


def test_identity_grid_holds_x_y_z_with_ends_on_the_last_cells():
    grid = identity_grid(2, 3, 5)
    assert grid.shape == (2, 3, 5, 3)
    assert_allclose(grid[0, 0, 0], [-1, -1, -1])
    assert_allclose(grid[1, 1, 3], [0.5, 0, 1])
    assert_allclose(identity_grid(1, 1, 1), np.zeros((1, 1, 1, 3)))


def test_identity_grid_returns_the_volume():
    volume = normal((2, 3, 4, 5, 6))
    grid = jnp.broadcast_to(identity_grid(3, 4, 5)[None], (2, 3, 4, 5, 3))
    assert_allclose(sample(volume, grid), volume, atol=1e-6)


def test_multilinear_functions_are_sampled_exactly():
    volume = trilinear(identity_grid(2, 2, 2))[None]
    points = uniform((1, 3, 4, 5, 3))
    assert_allclose(sample(volume, points), trilinear(points), atol=1e-5)


def test_points_outside_are_clamped_to_the_border():
    volume = trilinear(identity_grid(4, 5, 6))[None]
    points = 3.0 * normal((1, 3, 4, 5, 3))
    assert_allclose(sample(volume, points), sample(volume, jnp.clip(points, -1.0, 1.0)), atol=1e-6)


@pytest.mark.users_compiler
def test_each_volume_serves_consecutive_grids():
    volume = normal((2, 3, 4, 5, 6))
    points = uniform((4, 2, 2, 2, 3))
    assert_allclose(sample(volume, points), sample(jnp.repeat(volume, 2, axis=0), points), atol=1e-6)
    with pytest.raises(ValueError, match="multiple"):
        sample(volume, points[:3])


def test_volumes_of_a_group_serve_the_grids_that_name_them():
    volume, points = normal((4, 3, 4, 5, 6)), uniform((6, 2, 2, 2, 3))
    named = jax.jit(grid_sample_3d, static_argnums=2)(volume, points, (0, 0, 1))
    assert_allclose(named, sample(volume[jnp.array([0, 0, 1, 2, 2, 3])], points), atol=1e-6)
    with pytest.raises(ValueError, match="between 0 and 1"):
        grid_sample_3d(volume, points, (0, 0, 2))
    with pytest.raises(ValueError, match="multiple"):
        grid_sample_3d(volume, points, (0, 0, 1, 1))


def test_a_batch_that_is_split_over_devices_sends_nothing():
    """Neither to sample volumes and pictures, nor back: each device holds what its own grids look at."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.NamedSharding(mesh, jax.P("data"))

    def both_ways(function, *arguments):
        result, back = jax.vjp(function, *arguments)
        return result, back(result)

    for function, *shapes in (
        (grid_sample_3d, (8, 2, 4, 4, 3), (16, 2, 4, 4, 3)),
        (lambda volume, grid: grid_sample_3d(volume, grid, (0, 1, 0)), (16, 2, 4, 4, 3), (24, 2, 4, 4, 3)),
        (sample_2d, (8, 6, 6, 3), (8, 4, 4, 2)),
    ):
        compiled = jax.jit(lambda *arguments, f=function: both_ways(f, *arguments), out_shardings=split)
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=split) for shape in shapes]
        assert Module(compiled.lower(*shapes).compile().as_text()).bytes_sent() == {}


@pytest.mark.users_compiler
def test_gradients_are_those_of_the_function():
    volume = trilinear(identity_grid(5, 5, 5))[None]
    points = 0.9 * uniform((1, 1, 1, 7, 3))
    ours = jax.jit(jax.grad(lambda points: sample(volume, points)[..., 0].sum()))(points)
    assert_allclose(ours, np.broadcast_to([1.0, -2.0, 3.0], points.shape), atol=1e-4)
    weights = jax.jit(jax.grad(lambda volume: sample(volume, points).sum()))(volume)
    assert_allclose(weights.sum(), 7 * 3, rtol=1e-5)  # the eight weights of a point add up to one per channel
    outside = jax.grad(lambda points: sample(volume, points).sum())(jnp.array([-1.5, 1.0, 2.0]).reshape(1, 1, 1, 1, 3))
    assert_allclose(outside, 0.0)


def test_bfloat16_volumes_are_sampled_on_float32_grids():
    points = jnp.full((1, 1, 1, 1, 3), 0.3)
    out = sample(trilinear(identity_grid(4, 4, 64))[None].astype(jnp.bfloat16), points)
    assert out.dtype == jnp.bfloat16
    assert_allclose(out.astype(jnp.float32)[..., 0], 1.6, atol=0.02)


@pytest.mark.parametrize("shape", [(4, 8, 16), (2, 3, 4), (1, 3, 9)])
def test_linear_functions_are_resized_exactly(shape):
    field = identity_grid(2, 5, 7)[None]
    expected = identity_grid(*shape)
    if shape[0] == 1:
        expected = expected.at[..., 2].set(0.0)
    assert_allclose(jax.jit(resize_linear, static_argnums=1)(field, shape)[0], expected, atol=1e-6)
