"""jit, pmap and sharded do the same steps of both stages, on eight devices, with every term of the objectives on.

In float64 alone: what differs there differs by the order of sums, and anything else is far above it.
"""

import dataclasses

import jax
import numpy as np
import pytest

from tests.training.tiny import STAGE_1, STAGE_2
from vasa_jax.arrays import Average
from vasa_jax.autoencoder.objective import ObjectiveConfig
from vasa_jax.checkpoint import flatten
from vasa_jax.training import sharding
from vasa_jax.training.parallel import STRATEGIES, make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.tasks import PORTRAIT_LABELS, make_task

STAGES = {
    "stage 1": dataclasses.replace(STAGE_1, objective=ObjectiveConfig(scales=2)),  # l_consist and canonical too
    "stage 2": STAGE_2,
}
TERMS = {"stage 1": {"consistency", "canonical", "contrastive", "rendered_labels"}, "stage 2": set()}
BATCH = 8
STEPS = 10


def batch_of(task, step):
    """Random samples with plausible labels."""
    rng = np.random.default_rng(step)
    batch = {}
    for name, spec in task.batch_spec(BATCH).items():
        drawn = 0.3 * rng.normal(size=spec.shape)
        if name in ("mouth", "lids", "regions"):
            drawn = np.abs(drawn)
        batch[name] = rng.integers(0, 256, spec.shape, np.uint8) if spec.dtype == np.uint8 else drawn
    assert batch.keys() >= PORTRAIT_LABELS.keys() or "samples" in batch
    return batch | {"index": np.arange(BATCH * step, BATCH * (step + 1), dtype=np.uint32)}


def mean_of(metric):
    """A metric as one number: some are means over the samples that have a label."""
    return float(metric.total / metric.count) if isinstance(metric, Average) else float(metric)


def train(experiment, name, started):
    """Metrics of every step, and the parameters after the last."""
    task, strategy = make_task(experiment), make_strategy(name, BATCH)
    program = make_program(experiment, task, strategy)
    params, constants, _ = started
    state = strategy.create(program.fresh, flatten(params), constants)
    key = strategy.place(jax.device_get(jax.random.key_data(jax.random.key(1))))
    metrics = []
    for step in range(STEPS):
        state, measured = program.step(state, strategy.place_batch(batch_of(task, step)), key, {})
        metrics.append({name: mean_of(value) for name, value in strategy.collect(measured).items()})
    params = jax.device_get(strategy.collect(state.params))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((metrics, params)))
    return metrics, params


@pytest.fixture(scope="module", params=STAGES)
def trained(request):
    """What `train` returns under each strategy, with even small arrays split.

    One start for all: programs that are split differently may round an initialiser differently.
    """
    experiment = STAGES[request.param]
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        patch.setattr(sharding, "SMALL", 1)
        started = jax.device_get(jax.jit(make_task(experiment).init)(jax.random.key(0)))
        started = jax.tree.map(lambda x: x.astype(np.float64), started)
        found = {name: train(experiment, name, started) for name in STRATEGIES}
    assert found["jit"][0][0].keys() >= TERMS[request.param]
    assert all(found["jit"][0][0][term] > 0 for term in TERMS[request.param])
    return found


@pytest.mark.parametrize("name", ["pmap", "sharded"])
def test_ten_steps_agree_in_float64(trained, name):
    metrics, params = trained["jit"]
    others, other_params = trained[name]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-9), params, other_params)
    for ours, theirs in zip(metrics, others, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
