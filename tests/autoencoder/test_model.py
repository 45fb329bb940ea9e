"""The network as a whole: exact warps where they are known, shapes and sharing, and codes that reach the picture."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.tiny import AUTOENCODER
from vasa_jax.arrays import Motion, Portrait
from vasa_jax.autoencoder.encoders import channels_to_depth, depth_to_channels
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.autoencoder.warp import warp_to_canonical, warp_to_driven
from vasa_jax.geometry.grid import identity_grid

TINY = dataclasses.replace(AUTOENCODER, dynamics_dim=3, identity_channels=8)  # no two axes alike
NO_FLOW = jnp.zeros((1, 2, 4, 4, 3))


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def pictures(count, size):
    """Smooth random pictures, each its own, in 0..1."""
    coarse = np.random.default_rng(1).uniform(size=(count, 4, 4, 3)).astype(np.float32)
    return jax.image.resize(jnp.asarray(coarse), (count, size, size, 3), "linear")


@functools.cache
def tiny():
    """Parameters of the tiny network, every leaf random, also those that start at zero."""
    image = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(Autoencoder(TINY).init, jax.random.key(0), image, image)
    random = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * random.standard_normal(leaf.shape, dtype=np.float32)), shapes)


@functools.cache
def compiled(method):
    return jax.jit(functools.partial(Autoencoder(TINY).apply, method=method))


def apply(method, *arguments):
    return compiled(method)(tiny(), *arguments)


def test_channels_fold_into_slices_and_back():
    x = numbers(2, 3, 4, 10)
    volume = channels_to_depth(x, 5)
    assert volume.shape == (2, 5, 3, 4, 2)
    assert_allclose(volume[:, 3, :, :, 1], x[..., 1 * 5 + 3])
    assert_allclose(depth_to_channels(volume), x)


def test_warps_without_flow_and_pose_change_nothing():
    volume = numbers(1, 4, 8, 8, 3)
    for warp in (warp_to_canonical, warp_to_driven):
        assert_allclose(jax.jit(warp)(volume, NO_FLOW, jnp.zeros((1, 6))), volume, atol=1e-5)


def test_the_driven_warp_undoes_the_canonical_one():
    """On a volume that is linear in its coordinates, both are exact; inside, where no border was clamped."""
    volume = identity_grid(16, 16, 16)[None]
    pose = jnp.array([[0.2, -0.3, 0.1, 0.05, -0.1, 0.1]])
    canonical = jax.jit(warp_to_canonical)(volume, NO_FLOW, pose)
    again = jax.jit(warp_to_driven)(canonical, NO_FLOW, pose)
    inner = (0, *(slice(5, 11),) * 3)
    assert_allclose(again[inner], volume[inner], atol=1e-4)
    assert np.abs(canonical[inner] - volume[inner]).max() > 0.05


def test_flow_lives_in_the_canonical_frame():
    """A flow of the lower half of the canonical head moves the driven head's lower half, wherever the pose puts it."""
    volume = identity_grid(9, 9, 9)[None]
    lower = jnp.where(identity_grid(9, 9, 9)[..., 1:2] > 0.2, jnp.array([0.1, 0.0, 0.0])[None, None, None], 0.0)[None]
    upside_down = jnp.zeros((1, 6)).at[0, 2].set(np.pi)
    out = jax.jit(warp_to_driven)(volume, lower, upside_down)[0, 4, :, 4]
    assert_allclose(out[1], [0.1, 0.75, 0.0], atol=1e-5)  # a row near the top of the picture shows the chin, moved
    assert_allclose(out[7], [0.0, -0.75, 0.0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_portraits_motions_and_pictures_have_their_shapes_and_dtypes(dtype):
    model = Autoencoder(dataclasses.replace(TINY, dtype=dtype))
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)

    def call(method, *arguments):
        return jax.eval_shape(functools.partial(model.apply, method=method), tiny(), *arguments)

    portrait, motion = call("encode", image), call("motion", image)
    picture = call("render", portrait, motion)
    assert portrait.volume.shape == (2, 2, 8, 8, 4) and portrait.volume.dtype == dtype
    assert portrait.identity.shape == (2, 4, 4, 8) and picture.shape == (2, 32, 32, 3)
    assert motion.pose.shape == (2, 6) and motion.dynamics.shape == (2, 3)
    assert {part.dtype for part in (*motion, picture, portrait.identity)} == {jnp.dtype("float32")}


def test_each_portrait_serves_its_motions_and_both_parts_of_a_motion_move_the_picture():
    portrait = Portrait(numbers(2, 2, 8, 8, 4), numbers(2, 4, 4, 8))
    pose = jnp.zeros((4, 6)).at[1, 1].set(0.5)
    dynamics = jnp.zeros((4, 3)).at[3].set(1.0)
    picture = apply("render", portrait, Motion(pose, dynamics))
    assert 0.0 <= picture.min() and picture.max() <= 1.0
    assert np.abs(picture[0] - picture[1]).max() > 1e-3  # the first portrait, turned
    assert np.abs(picture[2] - picture[3]).max() > 1e-3  # the second portrait, another expression
    swapped = apply("render", Portrait(*(part[::-1] for part in portrait)), Motion(pose[::-1], dynamics[::-1]))
    assert_allclose(swapped, picture[::-1], atol=1e-5)


def test_motions_that_cannot_be_shared_evenly_are_refused():
    portrait = Portrait(numbers(2, 2, 8, 8, 4), numbers(2, 4, 4, 8))
    with pytest.raises(ValueError, match="multiple"):
        jax.eval_shape(
            functools.partial(Autoencoder(TINY).apply, method="drive"),
            tiny(),
            portrait,
            Motion(jnp.zeros((3, 6)), jnp.zeros((3, 3))),
        )


def test_the_known_motion_of_a_source_decides_its_canonical_volume():
    image = pictures(1, 32)
    still = Motion(jnp.zeros((1, 6)), jnp.zeros((1, 3)))
    volume = apply("encode", image, still).volume
    for other in (Motion(still.pose + 0.3, still.dynamics), Motion(still.pose, still.dynamics + 1.0)):
        assert np.abs(apply("encode", image, other).volume - volume).max() > 1e-3
