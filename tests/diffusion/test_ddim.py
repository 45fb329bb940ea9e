"""The sampler on data whose answer is known: a point mass, a Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.diffusion.ddim import sample
from vasa_jax.diffusion.schedule import cosine, signal_and_noise

pytestmark = pytest.mark.users_compiler

SCHEDULE = cosine(1000)
MEAN, DEVIATION = 0.7, 0.4
POINT = jnp.arange(6.0)[None]


def keys(count, seed=1):
    return jax.random.split(jax.random.key(seed), count)


def gaussian(x, level):
    """The exact E[x0 | x] for data from a normal distribution of MEAN and DEVIATION."""
    signal, noise = (part[:, None] for part in signal_and_noise(SCHEDULE, level))
    gain = signal * DEVIATION**2 / (signal**2 * DEVIATION**2 + noise**2)
    return MEAN + gain * (x - signal * MEAN)


@pytest.mark.parametrize(("steps", "eta"), [(1, 0.0), (1, 1.0), (3, 0.5), (50, 0.0), (50, 1.0)])
def test_a_point_mass_is_hit_exactly(steps, eta):
    noise = jax.random.normal(jax.random.key(0), (3, 6))
    with jax.numpy_dtype_promotion("strict"):
        result = sample(lambda x, level: jnp.broadcast_to(POINT, x.shape), noise, SCHEDULE, steps, eta, keys(3))
    np.testing.assert_allclose(result, jnp.broadcast_to(POINT, (3, 6)), atol=1e-6)


def test_one_step_is_the_denoiser_at_the_top():
    noise = jax.random.normal(jax.random.key(0), (3, 6))
    result = sample(lambda x, level: x * level[:, None], noise, SCHEDULE, 1)
    np.testing.assert_array_equal(result, noise * 1000.0)


def test_the_error_on_a_gaussian_shrinks_like_one_over_steps():
    noise = jax.random.normal(jax.random.key(0), (64, 1))
    signal, spread = signal_and_noise(SCHEDULE, jnp.full((1,), 1000.0))
    scale = jnp.sqrt(signal**2 * DEVIATION**2 + spread**2)  # the probability-flow ODE moves quantiles to quantiles
    exact = MEAN + DEVIATION * (noise - signal[None] * MEAN) / scale[None]
    error = [float(jnp.abs(sample(gaussian, noise, SCHEDULE, n) - exact).max()) for n in (50, 100, 200)]
    np.testing.assert_allclose(np.divide(error[:-1], error[1:]), 2, rtol=0.15)
    assert error[-1] < 0.01


def test_ancestral_sampling_ends_with_the_right_variance():
    noise = jax.random.normal(jax.random.key(0), (64, 500))
    result = jax.jit(lambda x: sample(gaussian, x, SCHEDULE, 250, 1.0, keys(64)))(noise)
    assert float(result.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(result.std()) == pytest.approx(DEVIATION, rel=0.03)


def test_fresh_noise_follows_the_key_of_its_sample():
    noise = jax.random.normal(jax.random.key(0), (4, 8))
    draw = jax.jit(lambda x, keys: sample(lambda x, level: x, x, SCHEDULE, 4, 1.0, keys))
    seen = draw(noise, keys(4))
    np.testing.assert_allclose(draw(noise[2:3], keys(4)[2:3]), seen[2:3], atol=1e-5)
    assert float(jnp.abs(draw(noise, keys(4, seed=2)) - seen).max(1).min()) > 0.1


def test_without_fresh_noise_keys_do_not_matter():
    noise = jax.random.normal(jax.random.key(0), (4, 8))
    np.testing.assert_array_equal(
        sample(gaussian, noise, SCHEDULE, 5), sample(gaussian, noise, SCHEDULE, 5, 0.0, keys(4))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, "steps=0"), ({"steps": 5, "eta": 1.5}, "eta=1.5"), ({"steps": 5, "eta": 0.5}, "pass one key")],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sample(gaussian, jnp.zeros((2, 2)), SCHEDULE, **options)
