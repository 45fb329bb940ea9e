"""The network as a whole: exact warps where they are known, shapes and sharing, and codes that reach the picture."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.arrays import Motion, Portrait
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.encoders import channels_to_depth, depth_to_channels
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.autoencoder.warp import warp_to_canonical, warp_to_driven
from vasa_jax.geometry.grid import identity_grid

TINY = AutoencoderConfig(
    image_size=32,
    volume_stride=4,
    volume_channels=4,
    volume_depth=2,
    dynamics_dim=3,
    groups=2,
    appearance_stem=4,
    appearance_widths=(4, 4, 8),
    appearance_blocks=1,
    identity_image_size=32,
    identity_width=4,
    identity_stages=(1, 1, 1, 1),
    identity_channels=8,
    pose_size=32,
    dynamics_size=32,
    motion_width=4,
    motion_stages=(1, 1, 1, 1),
    warp_channels=8,
    warp_depth=2,
    warp_widths=(8, 8, 4, 4),
    warp_upsampling=((1, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    canonical_widths=(4, 4, 4),
    canonical_depth_factor=1,
    decoder_width=8,
    decoder_blocks=1,
    decoder_widths=(8, 4, 4),
)
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
def compiled(method, config):
    return jax.jit(functools.partial(Autoencoder(config).apply, method=method))


def apply(method, *arguments, config=TINY):
    return compiled(method, config)(tiny(), *arguments)


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


def test_portraits_and_motions_have_their_shapes():
    image = pictures(2, 32)
    portrait, motion = apply("encode", image), apply("motion", image)
    assert portrait.volume.shape == (2, 2, 8, 8, 4) and portrait.identity.shape == (2, 4, 4, 8)
    assert motion.pose.shape == (2, 6) and motion.dynamics.shape == (2, 3)
    picture = apply("render", portrait, motion)
    assert picture.shape == (2, 32, 32, 3) and picture.dtype == jnp.float32
    assert 0.0 <= picture.min() and picture.max() <= 1.0


def test_one_portrait_serves_many_motions():
    portrait = Portrait(numbers(2, 2, 8, 8, 4), numbers(2, 4, 4, 8))
    motion = Motion(0.2 * numbers(4, 6), numbers(4, 3))
    copies = Portrait(*(jnp.repeat(part, 2, axis=0) for part in portrait))
    assert_allclose(apply("render", portrait, motion), apply("render", copies, motion), atol=1e-5)
    with pytest.raises(ValueError, match="multiple"):
        apply("render", portrait, Motion(motion.pose[:3], motion.dynamics[:3]))


def test_a_known_motion_replaces_the_encoders():
    image = pictures(1, 32)
    own = apply("motion", image)
    assert_allclose(apply("encode", image, own).volume, apply("encode", image).volume, atol=1e-4)
    turned = Motion(own.pose + 0.3, own.dynamics)
    assert np.abs(apply("encode", image, turned).volume - apply("encode", image).volume).max() > 0.01


def test_dynamics_move_the_picture():
    portrait = Portrait(numbers(1, 2, 8, 8, 4), numbers(1, 4, 4, 8))
    still, moved = (apply("render", portrait, Motion(jnp.zeros((1, 6)), jnp.full((1, 3), z))) for z in (0.0, 1.0))
    assert np.abs(still - moved).max() > 1e-3


def test_bfloat16_features_keep_float32_parameters_poses_and_pictures():
    config = dataclasses.replace(TINY, dtype="bfloat16")
    image = pictures(1, 32)
    motion = apply("motion", image, config=config)
    portrait = apply("encode", image, motion, config=config)
    picture = apply("render", portrait, motion, config=config)
    assert portrait.volume.dtype == jnp.bfloat16
    assert {motion.pose.dtype, motion.dynamics.dtype, picture.dtype} == {jnp.dtype("float32")}
    assert np.abs(picture - apply("render", apply("encode", image, motion), motion)).mean() < 0.05
