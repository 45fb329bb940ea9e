"""Several real processes on this machine, with the CPU's collectives."""

import contextlib
import dataclasses
import itertools
import json
import os
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.training.toy import EXPERIMENT, both, make_toy
from vasa_jax.errors import UserError
from vasa_jax.training import cluster
from vasa_jax.training.loop import train

STEPS = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(workdir, parallel, processes, stop):
    """What each process printed: its steps, why it stopped, a digest and the samples that it read."""
    port = free_port() if processes > 1 else 0
    command = [sys.executable, "-m", "tests.training.worker", str(workdir), parallel, str(STEPS), str(stop), str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    started = [
        subprocess.Popen(
            [*command, str(processes), str(process)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for process in range(processes)
    ]
    try:
        ended = [process.communicate(timeout=400) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, ended, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in ended]


def samples(ended, first):
    """Positions in the stream of each step that was done, over all processes; what was only read ahead is left out."""
    steps = ended[0]["step"] - first
    return [sorted(sum((one["seen"][step] for one in ended), [])) for step in range(steps)]


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    task = make_toy(players=both(every=2, start=3))
    train(dataclasses.replace(EXPERIMENT, steps=STEPS, log_every=1), task, folder, progress=False)
    return losses(folder)


@pytest.mark.long
@pytest.mark.parametrize("parallel, before, after", [("sharded", 2, 4), ("pmap", 2, 1)])
def test_a_run_stopped_in_all_processes_goes_on_in_another_number(tmp_path, alone, parallel, before, after):
    first = run(tmp_path, parallel, before, stop=5)
    assert {one["stopped"] for one in first} == {"SIGTERM"} and len({one["digest"] for one in first}) == 1
    done = first[0]["step"]
    assert 5 <= done < STEPS and {one["step"] for one in first} == {done}
    second = run(tmp_path, parallel, after, stop=0)
    assert {(one["step"], one["stopped"]) for one in second} == {(STEPS, "")}
    assert len({one["digest"] for one in second}) == 1
    committed = samples(first, 0) + samples(second, done)
    assert committed == [list(range(8 * step, 8 * step + 8)) for step in range(STEPS)]
    logged = losses(tmp_path)
    assert logged.keys() == alone.keys()
    np.testing.assert_allclose([logged[step] for step in alone], list(alone.values()), rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("", 2, 0), "give all three"),
        (("localhost:1", 2, 2), "process=2 must be below processes=2"),
        ((), "cannot join a cluster: .*name --coordinator"),
    ],
)
def test_half_a_cluster_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cluster.join(*arguments)


class Service:
    """What JAX's coordination service does with keys, in one process; `late` waits end in vain before each answer."""

    def __init__(self, late=0):
        self.told, self.late = {}, late

    def key_value_set(self, key, value):
        self.told[key] = value

    def blocking_key_value_get(self, key, milliseconds):
        assert milliseconds > 0
        if self.late or key not in self.told:
            self.late -= 1
            time.sleep(min(milliseconds, 1) / 1000)
            raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: GetKeyValue() timed out")
        return self.told[key]


@pytest.fixture
def ask(monkeypatch):
    """A function of work and patience: what process 1 is told after process 0 has asked the same."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def answer(work, patience=1e6, late=0):
        service = Service(late)
        monkeypatch.setattr(cluster, "_service", lambda: service)
        for process in range(2):
            monkeypatch.setattr(cluster, "_NUMBERS", itertools.count())
            monkeypatch.setattr(jax, "process_index", lambda process=process: process)
            if process:
                return cluster.told_by_first("make the data", lambda: pytest.fail("not here"), patience)
            with contextlib.suppress(OSError):
                cluster.told_by_first("make the data", work, patience)
        return None

    return answer


def test_others_wait_for_the_first_and_hear_what_it_says(ask, caplog):
    assert ask(lambda: "4", late=2) == "4"
    assert len(caplog.messages) == 2 and caplog.messages[0].endswith("for process 0 to make the data")


def test_a_wait_in_vain_ends_and_says_for_what(ask):
    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="process 0 could not make the data: No space left on device"):
        ask(full)
    with pytest.raises(UserError, match="waited 0 s in vain for process 0 to make the data"):
        ask(lambda: "4", patience=0.001, late=9)


def test_a_run_of_one_process_agrees_with_itself():
    assert cluster.told_by_first("count", lambda: "3", 1.0) == "3"
    assert cluster.is_first() and cluster.agree(True) and not cluster.agree(False) and not cluster.asked_to_stop(3)
