import dataclasses
from pathlib import Path

import jax
import pytest

from vasa_jax import config as configs
from vasa_jax.training.describe import describe
from vasa_jax.training.optimiser import make_optimiser
from vasa_jax.training.state import create
from vasa_jax.training.step import make_train_step
from vasa_jax.training.tasks import make_task

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_is_trainable(path):
    experiment = dataclasses.replace(configs.load(path), batch_size=1)
    task = make_task(experiment)
    optimiser = make_optimiser(experiment.optimiser, experiment.steps)
    params, constants = jax.eval_shape(task.init, jax.random.key(0))
    state = jax.eval_shape(lambda p, c: create(p, c, optimiser), params, constants)
    step = make_train_step(task.loss, optimiser, experiment.ema)
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    after, metrics = jax.eval_shape(step, state, task.batch_spec(1), key)
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)  # noqa: E731
    assert jax.tree.all(jax.tree.map(same, state, after))
    assert all(leaf.shape == () for leaf in jax.tree.leaves(metrics)) and {"loss", "gradient_norm"} <= metrics.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_survives_json(path):
    experiment = configs.load(path)
    assert configs.from_json(configs.to_json(experiment), type(experiment)) == experiment


@pytest.mark.parametrize("name, total", [("autoencoder_512", "199.4M"), ("motion_base", "28.7M")])
def test_a_dry_run_ends_with_the_total(name, total):
    lines = describe(configs.load(Path(__file__).parents[1] / "configs" / f"{name}.py")).splitlines()
    assert lines[-1] == f"total parameters: {total}"
    assert any("GMAC" in line for line in lines) and any("bytes" in line for line in lines)
