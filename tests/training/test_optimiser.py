import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.training.config import OptimiserConfig
from vasa_jax.training.optimiser import check_patterns, decayed, learning_rate, make_optimiser
from vasa_jax.training.players import Player
from vasa_jax.training.state import create
from vasa_jax.training.step import make_train_step

CONFIG = OptimiserConfig(learning_rate=1.0, final_learning_rate=0.1, warmup=10, weight_decay=0.5, clip=2.0)


def test_the_rate_warms_up_and_falls_as_a_cosine():
    rates = [float(learning_rate(CONFIG, 1000, step)) for step in (0, 9, 500, 1000, 2000)]
    np.testing.assert_allclose(rates, [0.1, 1.0, 0.55, 0.1, 0.1], atol=1e-3)


def test_the_rate_may_stay_or_fall_late():
    constant = dataclasses.replace(CONFIG, schedule="constant")
    late = dataclasses.replace(CONFIG, schedule="wsd", decay_share=0.25)
    rates = {c.schedule: [float(learning_rate(c, 1000, i)) for i in (0, 500, 750, 875, 1000)] for c in (constant, late)}
    np.testing.assert_allclose(rates["constant"], [0.1, 1.0, 1.0, 1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(rates["wsd"], [0.1, 1.0, 1.0, 0.55, 0.1], atol=1e-6)


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


@pytest.mark.parametrize(
    "field",
    [
        {"learning_rate": 0.0},
        {"b1": 1.0},
        {"clip": 0.0},
        {"warmup": -1},
        {"freeze": ("(",)},
        {"rates": (("a", 0.0),)},
        {"decay_share": 0.0},
    ],
)
def test_nonsense_is_refused(field):
    with pytest.raises(ValueError, match="optimiser"):
        OptimiserConfig(**field)


PARAMS = {name: {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)} for name in ("encoder", "decoder", "head")}


def test_frozen_parameters_stay_slower_ones_move_less_and_the_rest_as_before():
    """Adam's first step has the size of the rate whatever the gradient, so factors show as they are."""
    config = dataclasses.replace(
        CONFIG, weight_decay=0.0, freeze=("encoder/.*",), rates=(("decoder/kernel", 0.1), ("decoder/.*", 0.5))
    )
    optimiser = make_optimiser(config, 1000)
    state = optimiser.init(PARAMS)
    gradients = jax.tree.map(lambda x: 3.0 * x, PARAMS)
    updates: Any = optimiser.update(gradients, state, PARAMS)[0]
    moved = jax.tree.map(lambda x: float(jnp.abs(x).max()), updates)
    np.testing.assert_array_equal(list(moved["encoder"].values()), 0.0)
    np.testing.assert_allclose([moved["decoder"]["kernel"], moved["decoder"]["bias"]], [0.01, 0.05], rtol=1e-4)
    np.testing.assert_allclose(list(moved["head"].values()), 0.1, rtol=1e-4)
    sizes = [leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert sum(sizes) == 2 * 2 * (4 + 2)  # two moments of decoder and head, none of the encoder


def test_frozen_gradients_do_not_count_in_the_norm_and_decay_spares_them():
    config = dataclasses.replace(CONFIG, freeze=("encoder/.*", "decoder/.*"))

    def loss(params, frozen, views):
        return 1e6 * params["encoder"]["kernel"].sum() + 3.0 * params["head"]["kernel"][0, 0], {}

    players, optimisers = (Player("alone", loss, config),), {"alone": make_optimiser(config, 1000)}
    step = make_train_step(lambda *_: None, players, optimisers, 0.9, blocks=lambda p: p)
    batch, key = {"index": jnp.arange(2, dtype=jnp.uint32)}, jax.random.key_data(jax.random.key(0))
    state, metrics = jax.jit(step)(create(PARAMS, {}, {}, players, optimisers), batch, key)
    assert metrics["gradient_norm"] == 3.0 == metrics["gradient_norm/head"]
    assert metrics["gradient_norm/encoder"] == 0.0
    jax.tree.map(np.testing.assert_array_equal, state.params["encoder"], PARAMS["encoder"])
    assert float(state.params["head"]["kernel"][1, 1]) < 1.0  # decayed


def test_patterns_that_mean_nothing_are_refused():
    for field, patterns in (("freeze", ("decoder",)), ("rates", (("decoder", 0.5),))):
        with pytest.raises(ValueError, match=f"optimiser.{field}='decoder' matches no parameter; names look like"):
            check_patterns(dataclasses.replace(CONFIG, **{field: patterns}), PARAMS)
    with pytest.raises(ValueError, match="leaves nothing to train"):
        check_patterns(dataclasses.replace(CONFIG, freeze=(".*",)), PARAMS)
    check_patterns(dataclasses.replace(CONFIG, freeze=("decoder/.*",)), PARAMS)
