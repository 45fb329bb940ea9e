"""Driver augmentation: strength zero is the identity, and the ranges hold."""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from vasa_jax.autoencoder import augmentation
from vasa_jax.autoencoder.augmentation import AugmentationConfig


def test_zero_strength_changes_nothing():
    """No colour jitter and no displacement at strength 0."""
    picture = jax.random.uniform(jax.random.key(0), (16, 16, 3))
    assert_allclose(augmentation.jitter_colour(jax.random.key(1), picture, 0.0), picture, atol=1e-6)
    off = AugmentationConfig(crop=0.0, warp=0.0, colour=0.0)
    assert_allclose(augmentation.random_displacement(jax.random.key(2), 16, off), 0.0, atol=1e-7)


def test_jitter_stays_in_range_and_depends_on_the_key():
    """Pictures stay within 0..1; two keys give two pictures, one key always the same."""
    picture = jax.random.uniform(jax.random.key(0), (16, 16, 3))
    one, two = (augmentation.jitter_colour(jax.random.key(k), picture, 0.5) for k in (1, 2))
    assert one.min() >= 0.0 and one.max() <= 1.0
    assert jnp.abs(one - two).max() > 0.01
    assert (one == augmentation.jitter_colour(jax.random.key(1), picture, 0.5)).all()


def test_displacement_is_smooth():
    """Neighbouring pixels move alike: the warp never folds the picture."""
    size = 64
    moved = augmentation.random_displacement(jax.random.key(3), size, AugmentationConfig())
    step = 2.0 / (size - 1)
    assert jnp.abs(jnp.diff(moved[..., 0], axis=1)).max() < step
    assert jnp.abs(jnp.diff(moved[..., 1], axis=0)).max() < step


def test_nonsense_is_refused():
    """A negative strength names its field."""
    with pytest.raises(ValueError, match=r"augmentation\.warp=-1"):
        AugmentationConfig(warp=-1.0)
