"""SIGKILL at the worst moments; `benchmarks/kill_resume.py` does it at twenty more."""

import json
import subprocess
import sys
import time

import pytest

from benchmarks.kill_resume import state_of

STEPS = 14


def command(workdir, delay):
    toy = [sys.executable, "-m", "tests.training.worker", str(workdir), "jit", str(STEPS), "0", "0", "1", "0"]
    return [*toy, str(delay)]


def kill_when(workdir, moment):
    """Start the toy and kill it as soon as `moment` is there, then return how many steps it had logged."""
    process = subprocess.Popen(command(workdir, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not moment(workdir):
        assert process.poll() is None, "it ended before that moment"
        time.sleep(0.005)
    process.kill()
    process.wait()
    log = workdir / "log.jsonl"
    return log.read_text().count("train/loss") if log.exists() else 0


def complete(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def being_written(workdir):
    return [path for path in (workdir / "checkpoints").glob("*") if "tmp" in path.name]


MOMENTS = {
    "before the first step": lambda workdir: (workdir / "config.json").exists(),
    "in the first write": lambda workdir: being_written(workdir) and not complete(workdir),
    "in a later write": lambda workdir: being_written(workdir) and complete(workdir),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run(command(folder, 0), check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_like_one_that_never_stopped(tmp_path, whole, moment):
    steps = kill_when(tmp_path, MOMENTS[moment])
    assert steps < STEPS
    saved = complete(tmp_path)
    ended = json.loads(subprocess.run(command(tmp_path, 0), check=True, capture_output=True, text=True).stdout)
    first = ended["seen"][0][0] // 8
    assert first == max(saved, default=0), (
        "it must go on from the last complete checkpoint, not from a half-written one"
    )
    assert ended["step"] == STEPS and state_of(tmp_path) == state_of(whole)
    assert not being_written(tmp_path)
