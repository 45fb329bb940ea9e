"""Guidance on a linear denoiser, where equation (1) can be written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.diffusion.guidance import guided

CONDITIONS = {"audio": jnp.array([[1.0], [2.0]]), "gaze": jnp.array([[10.0], [30.0]])}
X, LEVEL = jnp.array([[0.5, 1.0], [1.5, 2.0]]), jnp.array([3.0, 4.0])


def without(conditions, name):
    return conditions | {name: jnp.zeros_like(conditions[name])}


def make(calls):
    def denoise(x, level, conditions):
        calls.append(x.shape)
        return x * level[:, None] + conditions["audio"] + conditions["gaze"]

    return denoise


@pytest.mark.parametrize(
    ("scales", "branches"),
    [({}, 1), ({"audio": 0.0}, 1), ({"audio": 0.5, "gaze": 1.0}, 3), ({"gaze": -0.25, "audio": 0.0}, 2)],
)
def test_each_condition_is_amplified_by_its_own_scale_in_one_batch(scales, branches):
    calls = []
    with jax.numpy_dtype_promotion("strict"):
        result = guided(make(calls), CONDITIONS, without, scales)(X, LEVEL)
    amplified = sum((1 + scales.get(name, 0)) * value for name, value in CONDITIONS.items())
    np.testing.assert_allclose(result, X * LEVEL[:, None] + amplified, rtol=1e-6)
    assert calls == [(2 * branches, 2)]


def test_a_scale_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="'gaze' is nan"):
        guided(make([]), CONDITIONS, without, {"gaze": float("nan")})
