"""The samplers on data whose answer is known: a point mass, a Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.diffusion.ddim import Ddim
from vasa_jax.diffusion.dpm_solver import DpmSolver
from vasa_jax.diffusion.schedule import cosine, signal_and_noise
from vasa_jax.diffusion.stepper import sample

pytestmark = pytest.mark.users_compiler

SCHEDULE = cosine(1000)
MEAN, DEVIATION = 0.7, 0.4
POINT = jnp.arange(6.0)[None]
STEPPERS = pytest.mark.parametrize("stepper", [Ddim(), DpmSolver()], ids=["ddim", "dpm++"])


def keys(count, seed=1):
    return jax.random.split(jax.random.key(seed), count)


def gaussian(x, level):
    """The exact E[x0 | x] for data from a normal distribution of MEAN and DEVIATION."""
    signal, noise = (part[:, None] for part in signal_and_noise(SCHEDULE, level))
    gain = signal * DEVIATION**2 / (signal**2 * DEVIATION**2 + noise**2)
    return MEAN + gain * (x - signal * MEAN)


def quantile(x, level):
    """By how many deviations x differs from the mean at its level: the probability-flow ODE keeps it."""
    signal, noise = signal_and_noise(SCHEDULE, jnp.full((1, 1), level, x.dtype))
    return (x - signal * MEAN) / jnp.sqrt(signal**2 * DEVIATION**2 + noise**2)


def error(stepper, steps):
    """Of the whole way down, worst of 64 starts."""
    noise = jax.random.normal(jax.random.key(0), (64, 1))
    exact = MEAN + DEVIATION * quantile(noise, 1000.0)
    return float(jnp.abs(sample(gaussian, noise, SCHEDULE, steps, stepper) - exact).max())


@pytest.mark.parametrize(
    ("stepper", "steps"),
    [(Ddim(), 1), (Ddim(1.0), 1), (Ddim(0.5), 3), (Ddim(), 50), (Ddim(1.0), 50)]
    + [(DpmSolver(), steps) for steps in (1, 2, 3, 50)],
)
def test_a_point_mass_is_hit_exactly(stepper, steps):
    noise = jax.random.normal(jax.random.key(0), (3, 6))
    with jax.numpy_dtype_promotion("strict"):
        result = sample(lambda x, level: jnp.broadcast_to(POINT, x.shape), noise, SCHEDULE, steps, stepper, keys(3))
    np.testing.assert_allclose(result, jnp.broadcast_to(POINT, (3, 6)), atol=1e-6)


@STEPPERS
def test_one_step_is_the_denoiser_at_the_top(stepper):
    noise = jax.random.normal(jax.random.key(0), (3, 6))
    result = sample(lambda x, level: x * level[:, None], noise, SCHEDULE, 1, stepper)
    np.testing.assert_array_equal(result, noise * 1000.0)


def test_the_error_of_ddim_on_a_gaussian_shrinks_like_one_over_steps():
    errors = [error(Ddim(), steps) for steps in (50, 100, 200)]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, rtol=0.15)
    assert errors[-1] < 0.01


def test_the_error_of_dpm_solver_on_a_gaussian_shrinks_with_the_square_of_the_steps():
    """Between two levels, where neither end is special; the first step, of first order, costs no order."""
    with jax.enable_x64(True):
        start, errors = jnp.linspace(-1.5, 2.0, 8)[:, None], []
        for steps in (10, 20, 40):
            levels, stepper, x = np.linspace(700.0, 300.0, steps + 1), DpmSolver(), start
            carry = stepper.init(x)
            for level, following in zip(levels[:-1], levels[1:], strict=True):
                here, there = jnp.full((8,), level), jnp.full((8,), following)
                carry, x = stepper.step(SCHEDULE, carry, x, gaussian(x, here), here, there)
            errors.append(float(jnp.abs(quantile(x, 300.0) - quantile(start, 700.0)).max()))
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.05)


def test_ten_steps_of_dpm_solver_do_better_than_twenty_of_ddim():
    assert error(DpmSolver(), 10) < error(Ddim(), 20)
    assert error(DpmSolver(), 20) < 0.3 * error(Ddim(), 50)


def test_ancestral_sampling_ends_with_the_right_variance():
    noise = jax.random.normal(jax.random.key(0), (64, 500))
    result = jax.jit(lambda x: sample(gaussian, x, SCHEDULE, 250, Ddim(1.0), keys(64)))(noise)
    assert float(result.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(result.std()) == pytest.approx(DEVIATION, rel=0.03)


def test_fresh_noise_follows_the_key_of_its_sample():
    noise = jax.random.normal(jax.random.key(0), (4, 8))
    draw = jax.jit(lambda x, keys: sample(lambda x, level: x, x, SCHEDULE, 4, Ddim(1.0), keys))
    seen = draw(noise, keys(4))
    np.testing.assert_allclose(draw(noise[2:3], keys(4)[2:3]), seen[2:3], atol=1e-5)
    assert float(jnp.abs(draw(noise, keys(4, seed=2)) - seen).max(1).min()) > 0.1


@STEPPERS
def test_without_fresh_noise_keys_do_not_matter(stepper):
    noise = jax.random.normal(jax.random.key(0), (4, 8))
    np.testing.assert_array_equal(
        sample(gaussian, noise, SCHEDULE, 5, stepper), sample(gaussian, noise, SCHEDULE, 5, stepper, keys(4))
    )


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="steps=0"):
        sample(gaussian, jnp.zeros((2, 2)), SCHEDULE, 0, Ddim())
    with pytest.raises(ValueError, match="eta=1.5"):
        Ddim(1.5)
    with pytest.raises(ValueError, match="pass one key"):
        sample(gaussian, jnp.zeros((2, 2)), SCHEDULE, 5, Ddim(0.5))
