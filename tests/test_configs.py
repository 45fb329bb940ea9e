import dataclasses
from pathlib import Path

import jax
import pytest

from vasa_jax import config as configs
from vasa_jax.training.describe import describe
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.tasks import make_task

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_is_trainable(path):
    """Abstractly, one sample on each of eight devices that share one copy of the state."""
    experiment = dataclasses.replace(configs.load(path), batch_size=8)
    task = make_task(experiment)
    program = make_program(experiment, task, make_strategy("sharded", 8))
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    state = program.shapes
    after, metrics = jax.eval_shape(program.step, state, task.batch_spec(8), key, task.helper_shapes())
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
