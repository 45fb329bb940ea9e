"""Noising and the three predictions, against their definitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.diffusion.process import KINDS, convert, q_sample
from vasa_jax.diffusion.schedule import cosine, signal_and_noise

SCHEDULE = cosine(100)
LEVEL = jnp.array([1.0, 20.0, 50.5, 95.0])
X0, EPS = jax.random.normal(jax.random.key(0), (2, 4, 3, 5))


def test_noise_preserves_unit_variance_and_ends_as_noise():
    x0, eps = jax.random.normal(jax.random.key(1), (2, 3, 100_000))
    x = q_sample(SCHEDULE, x0, jnp.array([0.0, 50.0, 100.0]), eps)
    np.testing.assert_allclose(x.std(1), 1, atol=0.01)
    np.testing.assert_array_equal(x[0], x0[0])
    np.testing.assert_allclose(x[2], eps[2], atol=0.01)


def test_every_prediction_becomes_every_other():
    signal, noise = (part[:, None, None] for part in signal_and_noise(SCHEDULE, LEVEL))
    truth = {"x0": X0, "eps": EPS, "v": signal * EPS - noise * X0}
    x = q_sample(SCHEDULE, X0, LEVEL, EPS)
    pairs = list(itertools.product(KINDS, repeat=2))
    with jax.numpy_dtype_promotion("strict"):
        results = jax.jit(lambda x: [convert(SCHEDULE, truth[s], s, t, x, LEVEL) for s, t in pairs])(x)
    for (source, target), result in zip(pairs, results, strict=True):
        np.testing.assert_allclose(result, truth[target], atol=5e-4, err_msg=f"{source} to {target}")


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="'score'"):
        convert(SCHEDULE, X0, "score", "x0", X0, LEVEL)
