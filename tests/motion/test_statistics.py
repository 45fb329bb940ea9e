"""Normalisation on dynamics of a known covariance."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.arrays import Motion
from vasa_jax.motion.statistics import (
    agrees,
    compare,
    denormalise,
    describe,
    describe_agreement,
    fit,
    normalise,
    spectrum,
)

SPECTRUM = np.array([5.0, 2.0, 1.0, 0.1, 0.01, 0.0])


@pytest.fixture(scope="module")
def motion():
    """Dynamics along random axes with SPECTRUM as deviations; a pose whose ty never changes."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    dynamics = (rng.normal(size=(4000, 6)) * SPECTRUM) @ axes.T + 3
    pose = rng.normal(size=(4000, 6)) * np.array([0.1, 0.3, 0.05, 0.1, 0, 0.02]) + 0.2
    return Motion(pose.reshape(40, 100, 6).astype(np.float32), dynamics.reshape(40, 100, 6).astype(np.float32))


def test_directions_above_the_floor_have_unit_variance_and_the_others_less(motion):
    statistics = fit(motion)
    assert (jnp.diff(statistics.dynamics_scale) <= 0).all()
    with jax.numpy_dtype_promotion("strict"):
        y = jax.jit(normalise)(statistics, Motion(*map(jnp.asarray, motion)))
    covariance = np.cov(np.asarray(y).reshape(-1, 12), rowvar=False)
    expected = [1, 1, 1, 1, 0, 1, 1, 1, 1, (0.1 / 0.5) ** 2, (0.01 / 0.5) ** 2, 0]
    np.testing.assert_allclose(covariance.diagonal(), expected, atol=0.01)
    np.testing.assert_allclose(covariance[6:, 6:], np.diag(expected[6:]), atol=0.01)


def test_denormalise_inverts(motion):
    statistics = fit(motion)
    raw = Motion(*(jnp.asarray(part) for part in motion))
    back = denormalise(statistics, normalise(statistics, raw))
    np.testing.assert_allclose(back.pose, raw.pose, atol=1e-5)
    np.testing.assert_allclose(back.dynamics, raw.dynamics, atol=1e-4)


def test_the_spectrum_is_that_of_the_data(motion):
    measured = spectrum(fit(motion), motion)
    np.testing.assert_allclose(measured, SPECTRUM, rtol=0.05, atol=1e-3)
    assert describe(measured).startswith(
        "dynamics: 2 of 6 directions carry 90 % of the variance, 3 carry 99 %; 3 are above"
    )


def test_statistics_agree_with_their_own_data_and_with_a_part_of_it(motion):
    agreement = compare(fit(motion), motion)
    np.testing.assert_allclose(agreement.mean, 0, atol=1e-5)
    np.testing.assert_allclose(agreement.deviation[:4], 1, atol=1e-5)
    assert agrees(agreement)
    part = compare(fit(motion), Motion(motion.pose[:4], motion.dynamics[:4]))
    assert agrees(part) and np.abs(part.mean).max() > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m._replace(pose=m.pose + [0.21, 0, 0, 0, 0, 0]), r"1 of 12 .* pose\[0\], has mean 2.* deviation 1"),
        (lambda m: m._replace(pose=m.pose * [1, 57, 1, 1, 1, 1]), r"pose\[1\], has mean .* deviation 57"),
        (lambda m: m._replace(pose=m.pose * [1, 1, 0.01, 1, 1, 1]), r"pose\[2\], has mean .* deviation 0.01"),
        (lambda m: m._replace(dynamics=3 * m.dynamics - 6), r"dynamics axis \d, has mean .* deviation 3"),
    ],
)
def test_what_is_off_is_named_with_numbers(motion, change, message):
    agreement = compare(fit(motion), change(motion))
    assert not agrees(agreement)
    assert re.search(message, describe_agreement(agreement))


def test_another_size_of_dynamics_is_refused(motion):
    with pytest.raises(ValueError, match="5 dynamics dimensions"):
        compare(fit(motion), motion._replace(dynamics=motion.dynamics[..., :5]))


@pytest.mark.parametrize(
    ("pose", "dynamics", "message"),
    [
        (np.zeros((1, 6)), np.zeros((1, 2)), "1 frames"),
        (np.zeros((3, 6)), np.zeros((3, 2)), "are equal"),
        (np.full((3, 6), np.nan), np.eye(3), "pose holds 18 numbers"),
    ],
)
def test_fit_refuses_what_has_no_statistics(pose, dynamics, message):
    with pytest.raises(ValueError, match=message):
        fit(Motion(pose, dynamics))
