import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.toy import EXPERIMENT, ROWS, init, loss
from vasa_jax.training.optimiser import make_optimiser
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.state import create
from vasa_jax.training.step import make_train_step, sample_keys


def run(name, steps):
    strategy = make_strategy(name, 16)
    optimiser = make_optimiser(EXPERIMENT.optimiser, steps)
    step = strategy.compile(make_train_step(loss, optimiser, 0.9, strategy.axis_name))
    params, constants = jax.tree.map(lambda x: x.astype(jnp.float64), init(jax.random.key(0)))
    state = strategy.place(create(params, constants, optimiser))
    key = strategy.place(jax.random.key_data(jax.random.key(5)))
    losses = []
    for i in range(steps):
        rows = np.resize(ROWS.astype(np.float64), (16, 3)) * np.cos(i)
        index = np.arange(16 * i, 16 * i + 16, dtype=np.uint32)
        state, metrics = step(state, strategy.place_batch({"x": rows, "y": rows[:, :2], "index": index}), key)
        losses.append(float(strategy.collect(metrics)["loss"]))
    return jax.device_get(strategy.collect(state)), losses


def test_ten_steps_of_pmap_and_jit_agree_in_float64():
    assert jax.device_count() == 8
    with jax.enable_x64(True):
        (a, losses_a), (b, losses_b) = run("jit", 10), run("pmap", 10)
    assert a.params["dense"]["kernel"].dtype == np.float64
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-9), a, b)
    np.testing.assert_allclose(losses_a, losses_b, rtol=1e-12)


def test_keys_depend_on_run_step_and_position_only():
    key = jax.random.key_data(jax.random.key(1))
    whole = jax.random.key_data(sample_keys(key, jnp.int32(3), jnp.arange(8, dtype=jnp.uint32)))
    part = jax.random.key_data(sample_keys(key, jnp.int32(3), jnp.arange(4, 8, dtype=jnp.uint32)))
    np.testing.assert_array_equal(whole[4:], part)
    later = jax.random.key_data(sample_keys(key, jnp.int32(4), jnp.arange(8, dtype=jnp.uint32)))
    assert len(np.unique(np.concatenate([whole, later]), axis=0)) == 16


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="choose jit or pmap"):
        make_strategy("magic", 8)
