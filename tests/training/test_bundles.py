"""Bundles that are damaged, and disks that take no more."""

import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.toy import EXPERIMENT, make_toy
from vasa_jax.errors import UserError
from vasa_jax.training.bundles import Bundles, newest_bundle, read_bundle
from vasa_jax.training.loop import train
from vasa_jax.training.start import Start

EIGHT = dataclasses.replace(EXPERIMENT, steps=8, eval_every=8, pictures_every=8)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def largest(folder):
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = {
    "metadata cut": lambda step: half(step / "state" / "_METADATA"),
    "metadata gone": lambda step: (step / "state" / "_METADATA").unlink(),
    "metadata of no tree": lambda step: (step / "state" / "_METADATA").write_text("[]"),
    "arrays emptied": lambda step: largest(step / "state" / "d").write_bytes(b""),
    "arrays cut": lambda step: half(largest(step / "state" / "d")),
    "arrays overwritten": lambda step: zeros(largest(step / "state" / "d")),
    "arrays gone": lambda step: shutil.rmtree(step / "state" / "d"),
    "manifest gone": lambda step: (step / "state" / "manifest.ocdbt").unlink(),
    "manifest cut": lambda step: half(step / "state" / "manifest.ocdbt"),
    "sharding emptied": lambda step: (step / "state" / "_sharding").write_bytes(b""),
    "state gone": lambda step: shutil.rmtree(step / "state"),
    "config cut": lambda step: half(step / "config" / "metadata"),
    "config gone": lambda step: shutil.rmtree(step / "config"),
    "nothing left": lambda step: (shutil.rmtree(step), step.mkdir()),
}


def stop_after(steps):
    return lambda done: "asked" if done >= steps else ""


def large_toy():
    """A toy whose constants are too large to lie in the manifest."""
    toy, large = make_toy(), np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    return dataclasses.replace(
        toy,
        init=lambda key: (toy.init(key)[0], {**toy.init(key)[1], "large": jnp.zeros(large.shape)}, toy.init(key)[2]),
        measure=lambda workdir, kept: ({**toy.measure(workdir, kept)[0], "large": large}, {}),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run stopped at four steps of eight, with bundles at 2 and 4; and the digest of a whole one."""
    folder = tmp_path_factory.mktemp("run")
    train(EIGHT, large_toy(), folder, stop=stop_after(4), progress=False)
    whole = train(EIGHT, large_toy(), tmp_path_factory.mktemp("whole"), progress=False)
    return folder, whole.digest


@pytest.fixture
def copied(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_bundle_before_a_damaged_one_is_read(copied, damage, caplog):
    DAMAGES[damage](copied / "checkpoints" / "4")
    step, config, state = read_bundle(copied)
    assert step == 2 and config["steps"] == 8 and state["step"] == 2
    (line,) = caplog.messages
    assert f"{copied / 'checkpoints' / '4'} is damaged (" in line and line.endswith("step 2 is taken instead")
    assert "\n" not in line and len(line) < 500


@pytest.mark.parametrize("damage", ["metadata cut", "arrays emptied", "state gone", "nothing left"])
def test_a_run_goes_on_from_the_bundle_before_and_saves_that_step_again(copied, run, damage, caplog):
    DAMAGES[damage](copied / "checkpoints" / "4")
    result = train(EIGHT, large_toy(), copied, progress=False)
    assert result.digest == run[1]
    assert sorted(path.name for path in (copied / "checkpoints").iterdir()) == ["6", "8"]
    assert (copied / "damaged" / "4").is_dir() and len(caplog.messages) == 1
    assert "step 2 is taken instead" in (copied / "log.jsonl").read_text()


@pytest.mark.parametrize(
    "name, text", [("state/_sharding", "{}"), ("state/_sharding", '{"a": 0}'), ("_CHECKPOINT_METADATA", '"x"')]
)
def test_notes_that_orbax_cannot_use_are_named(copied, name, text):
    shutil.rmtree(copied / "checkpoints" / "2")
    (copied / "checkpoints" / "4" / name).write_text(text)
    try:
        assert read_bundle(copied)[0] == 4
    except UserError as error:
        assert f"{copied / 'checkpoints'}" in str(error)


def test_where_no_bundle_can_be_read_the_folder_is_named(copied):
    for step in ("2", "4"):
        half(copied / "checkpoints" / step / "state" / "_METADATA")
    for attempt in (lambda: train(EIGHT, large_toy(), copied, progress=False), lambda: read_bundle(copied)):
        with pytest.raises(UserError, match="checkpoints/4 is damaged .* there is no older one; remove it, or name"):
            attempt()
    assert not (copied / "damaged").exists()


def test_a_damaged_bundle_that_is_named_is_refused(copied, tmp_path, caplog):
    half(copied / "checkpoints" / "4" / "state" / "_METADATA")
    with pytest.raises(UserError, match="checkpoints/4 is damaged"):
        train(EIGHT, large_toy(), tmp_path / "new", Start(resume=str(copied / "checkpoints" / "4")), progress=False)
    assert newest_bundle(copied)[0] == 2  # and where the run alone is named, the one before is taken
    assert (copied / "checkpoints" / "4").is_dir()


def test_a_clock_that_is_set_meanwhile_ends_no_write(tmp_path, run, monkeypatch):
    """Orbax measures how long a write takes by the wall's clock, here one that is thirty years off now and then."""
    real, years = time.time, itertools.cycle((0, 30, -30))
    monkeypatch.setattr(time, "time", lambda: real() + next(years) * 365 * 24 * 3600.0)
    assert train(EIGHT, large_toy(), tmp_path, progress=False).digest == run[1]
    assert newest_bundle(tmp_path) == (8, [])


FULL = """
import sys
from tests.full_disk import full_disk
with full_disk(int(sys.argv[2])):
    from tests.training.test_bundles import EIGHT, large_toy
    from vasa_jax import command
    from vasa_jax.training.loop import train
    sys.exit(command.run("train", lambda: [train(EIGHT, large_toy(), sys.argv[1], progress=False).digest]))
"""


def test_a_disk_that_takes_no_more_ends_a_run_in_one_line(tmp_path, run):
    command = [sys.executable, "-c", FULL, str(tmp_path / "run"), "20000"]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"train: error: cannot write a checkpoint to {tmp_path}/run/checkpoints: File too large;")
    assert "there is no checkpoint yet" in line
    assert not [path for path in (tmp_path / "run").glob("checkpoints/*tmp*/**/*") if path.is_file()]
    assert train(EIGHT, large_toy(), tmp_path / "run", progress=False).digest == run[1]


def test_a_run_of_many_devices_is_read_on_one(tmp_path):
    train(dataclasses.replace(EXPERIMENT, parallel="sharded"), make_toy(), tmp_path, progress=False)
    script = (
        "import sys, jax; from vasa_jax.training.bundles import read_bundle; "
        "step, _, state = read_bundle(sys.argv[1]); print(jax.device_count(), step, *state['params']['dense'])"
    )
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == ["1", "4", "bias", "kernel"], done.stderr


def test_a_run_of_an_older_version_is_a_source_and_goes_on_no_more(tmp_path):
    kernels = [np.full((2, 3), place, np.float32) for place in range(3)]
    decoder = {f"block_{place}": {"bias": kernel} for place, kernel in enumerate(kernels)}
    state = {"params": {"decoder": decoder}, "ema": {"decoder": decoder}, "step": np.int32(4)}
    with Bundles(tmp_path) as bundles:
        bundles.save(4, jax.tree.map(jnp.asarray, state), {"kind": "autoencoder"})
        bundles.finish()
        stacked = {"decoder": {"blocks": {"bias": jax.ShapeDtypeStruct((3, 2, 3), jnp.float32)}}}
        now = {"params": stacked, "ema": stacked, "step": jax.ShapeDtypeStruct((), jnp.int32)}
        with pytest.raises(UserError, match=f"older version.*--init-from {tmp_path} and another --workdir"):
            bundles.restore(4, now)
    _, _, read = read_bundle(tmp_path)
    np.testing.assert_array_equal(read["ema"]["decoder"]["blocks"]["bias"], np.stack(kernels))
    assert read["params"].keys() == {"decoder"} and read["params"]["decoder"].keys() == {"blocks"}
