"""jit, pmap and sharded do the same steps of both stages, on eight devices, with every term and both players on.

In float64 alone: what differs there differs by the order of sums, and anything else is far above it.
"""

import dataclasses

import jax
import numpy as np
import pytest

from tests.training.tiny import STAGE_1, STAGE_2
from vasa_jax.arrays import Average
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig
from vasa_jax.autoencoder.objective import TERMS, ObjectiveConfig
from vasa_jax.checkpoint import flatten
from vasa_jax.pretrained.helper import build_helper, save_helper
from vasa_jax.pretrained.vgg import VGGConfig
from vasa_jax.pretrained.world_features import WorldFeaturesConfig
from vasa_jax.training import sharding
from vasa_jax.training.config import HelperConfig, HelpersConfig
from vasa_jax.training.face_task import PORTRAIT_LABELS
from vasa_jax.training.parallel import STRATEGIES, make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.tasks import make_task

BATCH = 8
STEPS = 10
START = 2
"""Steps before the discriminator plays."""
PEOPLE = WorldFeaturesConfig(stem=2, widths=(2, 3), groups=1, neck=2, hidden=2, embedding=3, crop=32)


def stage_1(folder):
    """With every term on, against a discriminator that has a turn in every second step."""
    vgg = build_helper("vgg16", VGGConfig(blocks=(1, 1), widths=(3, 4), layers=("relu1_1", "relu2_1")))
    people = build_helper("world_features", PEOPLE)
    for name, helper in (("vgg", vgg), ("people", people)):
        save_helper(folder / name, helper, jax.device_get(helper.init(jax.random.key(1))), "")
    named = {part: HelperConfig(weights=str(folder / "vgg")) for part in ("perceptual", "face", "gaze")}
    weights = {term.name: 0.1 for term in TERMS}
    return dataclasses.replace(
        STAGE_1,
        objective=ObjectiveConfig(scales=2, adversarial_start=START, **weights),
        helpers=HelpersConfig(identity=HelperConfig(weights=str(folder / "people")), **named),
        discriminator=DiscriminatorConfig(width=4, layers=1, scales=1),
        discriminator_every=2,
        other_frames_per_sample=1,
    )


STAGES = {"stage 1": stage_1, "stage 2": lambda folder: STAGE_2}


def batch_of(task, step):
    """Random samples with plausible labels."""
    rng = np.random.default_rng(step)
    batch = {}
    for name, spec in task.batch_spec(BATCH).items():
        drawn = 0.3 * rng.normal(size=spec.shape)
        if name.removeprefix("other_") in ("mouth", "lids", "expression", "regions"):
            drawn = np.abs(drawn)
        batch[name] = rng.integers(0, 256, spec.shape, np.uint8) if spec.dtype == np.uint8 else drawn
    assert batch.keys() >= PORTRAIT_LABELS.keys() or "samples" in batch
    return batch | {"index": np.arange(BATCH * step, BATCH * (step + 1), dtype=np.uint32)}


def mean_of(metric):
    """A metric as one number: NaN in the steps that have none."""
    if not isinstance(metric, Average):
        return float(metric)
    return float(metric.total / metric.count) if metric.count else float("nan")


def train(experiment, name, started):
    """Metrics of every step, and the parameters after the last."""
    task, strategy = make_task(experiment), make_strategy(name, BATCH)
    program = make_program(experiment, task, strategy)
    params, constants, _ = started
    state = strategy.create(program.fresh, flatten(params), constants)
    key = strategy.place(jax.device_get(jax.random.key_data(jax.random.key(1))))
    helpers = strategy.place(jax.tree.map(np.float64, task.helpers()))
    metrics = []
    for step in range(STEPS):
        state, measured = program.step(state, strategy.place_batch(batch_of(task, step)), key, helpers)
        metrics.append({name: mean_of(value) for name, value in strategy.collect(measured).items()})
    assert {term.name for term in TERMS} <= metrics[0].keys() or "motion" in experiment.kind
    params = jax.device_get(strategy.collect(state.params))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    return metrics, params


@pytest.fixture(scope="module", params=[pytest.param("stage 1", marks=pytest.mark.long), "stage 2"])
def trained(request, tmp_path_factory):
    """What `train` returns under each strategy, with even small arrays split.

    One start for all: programs that are split differently may round an initialiser differently.
    """
    experiment = STAGES[request.param](tmp_path_factory.mktemp("helpers"))
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        patch.setattr(sharding, "SMALL", 1)
        started = jax.device_get(jax.jit(make_task(experiment).init)(jax.random.key(0)))
        started = jax.tree.map(lambda x: x.astype(np.float64), started)
        return {name: train(experiment, name, started) for name in STRATEGIES}


@pytest.mark.parametrize("name", ["pmap", "sharded"])
def test_ten_steps_agree_in_float64(trained, name):
    metrics, params = trained["jit"]
    others, other_params = trained[name]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-9), params, other_params)
    for ours, theirs in zip(metrics, others, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9, nan_ok=True)


def test_terms_and_players_have_their_turns(trained):
    metrics, _ = trained["jit"]
    if "discriminator/loss" not in metrics[0]:
        assert all(np.isfinite(list(row.values())).all() for row in metrics)
        return
    for step, row in enumerate(metrics):
        known = {name for name, value in row.items() if np.isfinite(value)}
        assert known >= {"loss", "perceptual", "face", "gaze", "cross_identity", "contrastive", "l1", "gradient_norm"}
        assert known >= {"consistency", "canonical"}
        assert ("adversarial" in known) == ("matching" in known) == (step >= START)
        turn = step >= START and step % 2 == 0
        assert ("discriminator/loss" in known) == ("discriminator/accuracy" in known) == turn
        assert (row["discriminator/gradient_norm"] > 0) == turn
