"""The commands of docs/training.md: all are taken by the door in full size, and they run in order in the smallest."""

import dataclasses
import functools
import itertools
import json
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.inference.tiny import write_release
from tests.training.tiny import MOTION, STAGE_1
from vasa_jax import checkpoint, config
from vasa_jax.arrays import Motion
from vasa_jax.autoencoder import objective
from vasa_jax.autoencoder.views import Views
from vasa_jax.checkpoint import flatten, load_release
from vasa_jax.data import write_clip, write_shard
from vasa_jax.doors import infer, train
from vasa_jax.media.video import read_video
from vasa_jax.synthetic.__main__ import main as synthetic
from vasa_jax.training import face_task
from vasa_jax.training.encode import main as encode
from vasa_jax.training.export import main as export
from vasa_jax.training.optimiser import check_patterns
from vasa_jax.training.start import initial, with_stage_1
from vasa_jax.training.tasks import make_task

TEXT = Path("docs/training.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)).replace("\\\n", " ")
LINES = [line for line in BLOCKS.splitlines() if line]
COMMANDS = [line for line in LINES if line.startswith("vasa-train")]
NOT_HERE = ("--distributed", "--coordinator")
"""Flags of commands that need a cluster (tests/training/test_cluster.py has one)."""


def prepare(arguments):
    """In place of vasa-prepare, which needs real faces (tests/doors/test_prepare.py runs it): three clips a split, of
    twice the size of the smallest stage 1."""
    out, random = Path(arguments[1]), np.random.default_rng(0)
    for split in ("train", "validation"):
        (out / split).mkdir(parents=True)
        frames = random.integers(0, 256, (3, 8, 64, 64, 3)).astype(np.uint8)
        sound = random.uniform(-0.1, 0.1, (3, 640 * 8)).astype(np.float32)
        labels = {
            "pose": np.zeros((frames.shape[1], 6), np.float32),
            "mouth": np.zeros((frames.shape[1], 1), np.float32),
        }
        write_shard(
            out / split / "0.array_record", [write_clip(*clip, labels) for clip in zip(frames, sound, strict=True)]
        )
    return 0


PROGRAMS = {
    "vasa-prepare": prepare,
    "python -m vasa_jax.training.encode": encode,
    "vasa-train": train.main,
    "vasa-infer": infer.main,
    "vasa-synthetic": synthetic,
    "python -m vasa_jax.training.export": export,
}
SHORT = {
    "vasa-train": {"--time-limit": "1e-9", "--optimiser.warmup": "1", "--steps": "1000"},
    "vasa-infer": {"--steps": "2"},
    "vasa-synthetic": {"--seconds": "1"},
}
"""Flags that shorten a command, in place of its own. A run without time stops behind one step."""
CLIPS = {"demo_autoencoder": "8", "demo_motion": "3"}


@functools.cache
def shapes_of(kind, model):
    return jax.eval_shape(make_task(kind(model=model)).init, jax.random.key(0))


def test_there_are_commands():
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_the_door_takes(command):
    """Patterns name parameters of the models in their real size, and released ones fit."""
    run = train.parse(shlex.split(command)[1:])
    task = make_task(run.experiment)
    params, constants, _ = shapes_of(type(run.experiment), run.experiment.model)
    check_patterns(run.experiment.optimiser, params)
    if run.start.init_from == "demo":
        taken = initial(run.start, run.experiment, params, task.blocks(params), constants)
        left = flatten(params).keys() - taken.parameters.keys()
        assert all(any(re.fullmatch(pattern, name) for pattern in run.start.fresh) for name in left)
        assert dataclasses.is_dataclass(with_stage_1(run.experiment, run.start))


def bare(model, augment, needed, params, *rest):
    """In place of stage 1's views and objective, of which each command would compile another step for half a minute
    (test_stages.py takes real steps): every parameter has a gradient."""
    return Views(params, *[None] * 2, Motion(None, None), *[None] * 3)


def decay(config, views, helpers, step, discriminator):
    total = sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(views.frames))
    return total, {"psnr": total}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The names of the documentation, meaning the smallest models: two configs and a release."""
    for folder in ("models", "configs", "here"):
        (tmp_path / folder).mkdir()
    write_release(tmp_path / "models" / "demo", STAGE_1.model, MOTION)
    for name, stage in (("demo_autoencoder", "STAGE_1"), ("demo_motion", "STAGE_2")):
        code = f"from tests.training.tiny import {stage}\n\n\ndef get_config():\n    return {stage}\n"
        (tmp_path / "configs" / f"{name}.py").write_text(code)
    monkeypatch.setattr(face_task, "look", bare)
    monkeypatch.setattr(objective, "loss", decay)
    monkeypatch.setattr(checkpoint, "BUNDLED", tmp_path / "models")
    monkeypatch.setattr(config, "folder", lambda: tmp_path / "configs")
    monkeypatch.chdir(tmp_path / "here")


def shortened(line):
    """The program of a command, and its arguments with the values of SHORT."""
    start = next(start for start in PROGRAMS if line.startswith(start))
    arguments = shlex.split(line.removeprefix(start))
    values = dict(SHORT.get(start, {}))
    if start == "vasa-train":
        if "--data.path" not in arguments:
            values["--data.clips"] = CLIPS[arguments[0]]
        if "--allow-config-change" in arguments:
            del values["--steps"]
    for flag in values.keys() & set(arguments):
        at = arguments.index(flag)
        del arguments[at : at + 2]
    return start, [*arguments, *itertools.chain(*values.items())]


@pytest.mark.long
def test_the_commands_run_in_order(small, capsys):
    """Each with a step, on a few clips; one that is another's once it is short is left out."""
    seen, steps = set(), {}
    for line in LINES:
        if any(flag in line for flag in NOT_HERE):
            continue
        start, arguments = shortened(line)
        kind = (start, *(re.sub("^runs/.*", "RUN", part) for part in arguments))
        if kind in seen:
            continue
        seen.add(kind)
        assert PROGRAMS[start](arguments) == 0, (line, capsys.readouterr().err)
        if start == "vasa-train":
            workdir = arguments[arguments.index("--workdir") + 1]
            steps[workdir] = steps.get(workdir, 0) + 1
            assert f"step {steps[workdir]}, " in capsys.readouterr().out
    assert len(seen) > 8 and steps.pop("runs/motion") == 2 and set(steps.values()) == {1}  # one goes on
    assert json.loads(Path("runs/decoder/config.json").read_text())["model"]["decoder_blocks"] == 2
    assert load_release("my-model").config["autoencoder"]["image_size"] == STAGE_1.model.image_size
    assert len(list(read_video("talk.mp4"))) == 25  # a second
