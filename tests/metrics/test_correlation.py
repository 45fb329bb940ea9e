"""Curves with a known answer: shifts, constants, permutations, intervals of a known mean, sound between silences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.metrics.correlation import bootstrap_interval, derangement, lagged_correlation, pearson, voiced_span


@pytest.mark.parametrize("shift", [-4, 0, 3])
def test_a_known_shift_is_found_with_its_sign(shift):
    """An estimate that comes `shift` frames later has that lag and correlation 1 there."""
    curve = np.random.default_rng(0).standard_normal(120)
    truth, late = curve[10:110], curve[10 - shift : 110 - shift]
    found = lagged_correlation(truth, 3.0 * late - 1.0)
    assert found.lag == shift
    assert_allclose(found.best, 1.0)
    assert_allclose(found.zero, pearson(truth, late))


def test_correlation_of_known_curves():
    """Sine against sine is 1, against cosine 0 over whole periods, against its negative -1, against a constant 0."""
    phase = np.arange(100) / 100 * 4 * np.pi
    assert_allclose(pearson(np.sin(phase), 2 * np.sin(phase) + 5), 1.0)
    assert_allclose(pearson(np.sin(phase), np.cos(phase)), 0.0, atol=1e-12)
    assert_allclose(pearson(np.sin(phase), -np.sin(phase)), -1.0)
    assert pearson(np.sin(phase), np.ones(100)) == 0.0


def test_a_still_mouth_has_lag_zero():
    """Nothing to align: the lag stays 0 instead of running to an end of the range."""
    assert lagged_correlation(np.arange(30.0), np.zeros(30)) == (0.0, 0.0, 0)


def test_curves_must_match_and_be_long_enough():
    """The message says what lengths were given."""
    with pytest.raises(ValueError, match="10 and 11 frames"):
        lagged_correlation(np.zeros(10), np.zeros(11))
    with pytest.raises(ValueError, match="at least 8 frames"):
        lagged_correlation(np.zeros(7), np.zeros(7))


@pytest.mark.parametrize("count", [2, 3, 20])
def test_a_derangement_moves_everyone(count):
    """Each is a permutation without fixed points; the seed decides which."""
    orders = [derangement(count, seed) for seed in range(50)]
    for order in orders:
        assert sorted(order) == list(range(count))
        assert not (order == np.arange(count)).any()
    assert count == 2 or len({tuple(order) for order in orders}) > 1
    assert (derangement(count, 7) == derangement(count, 7)).all()


def test_one_item_cannot_be_deranged():
    """It would keep its own audio."""
    with pytest.raises(ValueError, match="count=1"):
        derangement(1, 0)


def test_the_bootstrap_interval_is_that_of_the_normal_mean():
    """For many Gaussian values it is the mean ± 1.96 standard errors; columns of the same values add nothing."""
    values = np.random.default_rng(1).standard_normal(400)
    low, high = bootstrap_interval(values)
    error = values.std() / 20
    assert_allclose([low, high], [values.mean() - 1.96 * error, values.mean() + 1.96 * error], atol=0.1 * error)
    assert_allclose(bootstrap_interval(np.stack([values] * 3, 1)), (low, high), rtol=1e-12)


def test_silence_at_both_ends_is_found():
    """Sound in frames 3 to 6 of ten; none at all gives an empty span."""
    audio = np.zeros(10 * 640, np.float32)
    audio[3 * 640 : 7 * 640] = np.sin(np.arange(4 * 640))
    assert voiced_span(audio, 640) == (3, 7)
    assert voiced_span(np.zeros(6400), 640) == (0, 0)
