"""jit, pmap and sharded do the same steps of both stages, on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.tiny import STAGE_1, STAGE_2
from vasa_jax.checkpoint import flatten
from vasa_jax.training import sharding
from vasa_jax.training.parallel import STRATEGIES, make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.tasks import PORTRAIT_LABELS, make_task

STAGES = {"stage 1": STAGE_1, "stage 2": STAGE_2}
BATCH = 8


def batch_of(task, step, dtype):
    """Random samples with plausible labels."""
    rng = np.random.default_rng(step)
    batch = {}
    for name, spec in task.batch_spec(BATCH).items():
        drawn = 0.3 * rng.normal(size=spec.shape)
        if name in ("mouth", "lids", "regions"):
            drawn = np.abs(drawn)
        batch[name] = rng.integers(0, 256, spec.shape, np.uint8) if spec.dtype == np.uint8 else drawn.astype(dtype)
    assert batch.keys() >= PORTRAIT_LABELS.keys() or "samples" in batch
    return batch | {"index": np.arange(BATCH * step, BATCH * (step + 1), dtype=np.uint32)}


def train(experiment, name, started, steps):
    """Losses, the first gradient (off the first moment), and the parameters after the last step."""
    task, strategy = make_task(experiment), make_strategy(name, BATCH)
    program = make_program(experiment, task, strategy)
    params, constants = started
    dtype = jax.tree.leaves(params)[0].dtype
    state = strategy.create(program.fresh, flatten(params), constants)
    key = strategy.place(jax.device_get(jax.random.key_data(jax.random.key(1))))
    losses, first = [], None
    for step in range(steps):
        state, metrics = program.step(state, strategy.place_batch(batch_of(task, step, dtype)), key)
        losses.append(float(strategy.collect(metrics)["loss"]))
        if first is None:
            first = jax.device_get(strategy.collect(state.opt[1][0].mu))
    params = jax.device_get(strategy.collect(state.params))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((losses, first, params)))
    return losses, first, params


def by_strategy(stage, steps, dtype):
    """What `train` returns under each strategy, with even small arrays split.

    One start for all: programs that are split differently may round an initialiser differently.
    """
    experiment = STAGES[stage]
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(dtype == jnp.float64):
        patch.setattr(sharding, "SMALL", 1)
        started = jax.device_get(jax.jit(make_task(experiment).init)(jax.random.key(0)))
        started = jax.tree.map(lambda x: x.astype(dtype), started)
        return {name: train(experiment, name, started, steps) for name in STRATEGIES}


@pytest.fixture(scope="module", params=STAGES)
def single(request):
    return by_strategy(request.param, 2, jnp.float32)


@pytest.mark.parametrize("name", ["pmap", "sharded"])
def test_losses_and_first_gradients_agree_in_float32(single, name):
    losses, first, _ = single["jit"]
    others, other_first, _ = single[name]
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(first))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * largest), first, other_first)


@pytest.fixture(scope="module", params=STAGES)
def exact(request):
    return by_strategy(request.param, 10, jnp.float64)


@pytest.mark.parametrize("name", ["pmap", "sharded"])
def test_ten_steps_agree_in_float64(exact, name):
    losses, _, params = exact["jit"]
    others, _, other_params = exact[name]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-9), params, other_params)
    np.testing.assert_allclose(losses, others, rtol=1e-9)
