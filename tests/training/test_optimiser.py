from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.training.config import OptimiserConfig
from vasa_jax.training.optimiser import decayed, learning_rate, make_optimiser

CONFIG = OptimiserConfig(learning_rate=1.0, final_learning_rate=0.1, warmup=10, weight_decay=0.5, clip=2.0)


def test_the_rate_warms_up_and_falls_as_a_cosine():
    rates = [float(learning_rate(CONFIG, 1000, step)) for step in (0, 9, 500, 1000, 2000)]
    np.testing.assert_allclose(rates, [0.1, 1.0, 0.55, 0.1, 0.1], atol=1e-3)


def test_only_kernels_decay():
    params = {"a": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}}
    assert decayed(params) == {"a": {"kernel": True, "bias": False}, "norm": {"scale": False}}
    optimiser = make_optimiser(CONFIG, 1000)
    updates: Any = optimiser.update(jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params)[0]
    np.testing.assert_allclose(updates["a"]["kernel"], -0.1 * 0.5, rtol=1e-3)  # first rate x decay
    np.testing.assert_array_equal(updates["a"]["bias"], 0.0)


def test_the_first_step_has_the_size_of_the_rate_however_large_the_gradient():
    params = {"bias": jnp.zeros(4)}
    optimiser = make_optimiser(CONFIG, 1000)
    updates: Any = optimiser.update({"bias": jnp.full(4, 1e6)}, optimiser.init(params), params)[0]
    np.testing.assert_allclose(updates["bias"], -0.1, rtol=1e-4)


@pytest.mark.parametrize("field", [{"learning_rate": 0.0}, {"b1": 1.0}, {"clip": 0.0}, {"warmup": -1}])
def test_nonsense_is_refused(field):
    with pytest.raises(ValueError, match="optimiser"):
        OptimiserConfig(**field)
