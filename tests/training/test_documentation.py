"""Every command of docs/training.md parses, and its patterns name parameters."""

import dataclasses
import functools
import re
import shlex
from pathlib import Path

import jax
import pytest

from vasa_jax.checkpoint import flatten
from vasa_jax.doors import train as door
from vasa_jax.training.optimiser import check_patterns
from vasa_jax.training.start import initial, with_stage_1
from vasa_jax.training.tasks import make_task

TEXT = Path("docs/training.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line for line in BLOCKS.splitlines() if line.startswith("vasa-train")]


@functools.cache
def shapes_of(kind, model):
    return jax.eval_shape(make_task(kind(model=model)).init, jax.random.key(0))


def test_there_are_commands():
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_the_door_takes(command):
    run = door.parse(shlex.split(command)[1:])
    task = make_task(run.experiment)
    params, constants = shapes_of(type(run.experiment), run.experiment.model)
    check_patterns(run.experiment.optimiser, params)
    if run.start.init_from == "demo":
        taken = initial(run.start, run.experiment, params, task.blocks(params), constants)
        left = flatten(params).keys() - taken.parameters.keys()
        assert all(any(re.fullmatch(pattern, name) for pattern in run.start.fresh) for name in left)
        assert dataclasses.is_dataclass(with_stage_1(run.experiment, run.start))
