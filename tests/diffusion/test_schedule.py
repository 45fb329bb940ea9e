"""The cosine schedule against its closed form, and the levels a sampler visits."""

import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.diffusion.schedule import cosine, signal_and_noise, trailing_levels


def test_table_is_the_closed_form_wherever_beta_is_not_clipped():
    levels = np.arange(0, 1000.0)
    closed = np.cos((levels / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(np.exp(cosine(1000).log_signal[:-1]), closed, rtol=1e-9)


def test_the_clip_keeps_the_last_level_above_zero():
    table = cosine(1000).log_signal
    assert np.exp(table[-1] - table[-2]) == pytest.approx(0.001)
    assert np.exp(table[-1]) == pytest.approx(2.43e-9, rel=0.01)


def test_level_zero_is_clean_and_the_squares_sum_to_one():
    levels = jnp.linspace(0.0, 1000.0, 2001)
    signal, noise = signal_and_noise(cosine(1000), levels)
    assert (signal[0], noise[0]) == (1.0, 0.0)
    np.testing.assert_allclose(signal**2 + noise**2, 1, atol=1e-6)
    assert (jnp.diff(signal) < 0).all()
    assert (jnp.diff(noise[:1000]) > 0).all()


def test_small_levels_keep_their_digits_in_float32():
    _, noise = signal_and_noise(cosine(1000), jnp.ones(1))
    assert float(noise[0]) == pytest.approx(np.sqrt(-np.expm1(cosine(1000).log_signal[1])), rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000, 1300])
def test_levels_run_from_exactly_the_top_to_exactly_zero(steps):
    levels = trailing_levels(cosine(1000), steps)
    assert len(levels) == steps + 1
    assert levels[0] == 1000
    assert levels[-1] == 0
    assert (np.diff(levels) < 0).all()


def test_levels_are_whole_when_steps_divide_the_timesteps():
    assert trailing_levels(cosine(1000), 50).tolist() == list(range(1000, -1, -20))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="steps=0"):
        trailing_levels(cosine(10), 0)
    with pytest.raises(ValueError, match="timesteps=0"):
        cosine(0)
