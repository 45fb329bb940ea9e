import dataclasses
import json
import os
import signal

import numpy as np
import pytest

from tests.training.toy import EXPERIMENT, ToyExperiment, make_toy
from vasa_jax.checkpoint import read_bundle
from vasa_jax.training.loop import NonFiniteError, train


def stop_after(steps):
    return lambda done: "asked" if done >= steps else ""


@pytest.mark.parametrize("parallel", ["jit", "pmap", "sharded"])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, parallel):
    experiment = dataclasses.replace(EXPERIMENT, parallel=parallel, save_every=100)
    whole = train(experiment, make_toy(), tmp_path / "whole", progress=False)
    first = train(experiment, make_toy(), tmp_path / "parts", stop=stop_after(3), progress=False)
    second = train(experiment, make_toy(), tmp_path / "parts", progress=False)
    assert (whole.step, first.step, second.step) == (4, 3, 4)
    assert (whole.stopped, first.stopped, second.stopped) == ("", "asked", "")
    assert second.digest == whole.digest != first.digest
    a, b = (read_bundle(tmp_path / name)[2] for name in ("whole", "parts"))
    np.testing.assert_array_equal(a["ema"]["dense"]["kernel"], b["ema"]["dense"]["kernel"])
    np.testing.assert_array_equal(a["constants"]["shift"], np.full(2, 0.1, np.float32))


def test_a_finished_run_is_left_alone(tmp_path):
    results = [train(EXPERIMENT, make_toy(), tmp_path, progress=False) for _ in range(2)]
    assert results[0].digest == results[1].digest and results[1].step == 4


def test_the_first_non_finite_loss_stops_the_run_and_is_named(tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, steps=10, log_every=10, save_every=4)
    with pytest.raises(NonFiniteError, match="not finite at step 7: loss, gradient_norm"):
        train(experiment, make_toy(bad_at=7), tmp_path, progress=False)
    step, _, state = read_bundle(tmp_path)
    assert step == 4 and np.isfinite(state["params"]["dense"]["kernel"]).all()


def test_sigterm_saves_and_stops(tmp_path):
    def kill(done):
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return ""

    experiment = dataclasses.replace(EXPERIMENT, steps=1000, save_every=1000)
    result = train(experiment, make_toy(), tmp_path, stop=kill, progress=False)
    assert result.stopped == "SIGTERM" and result.step == read_bundle(tmp_path)[0] < 10


def test_a_time_limit_saves_and_stops(tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, steps=1000, save_every=1000)
    result = train(experiment, make_toy(), tmp_path, time_limit=0.0, progress=False)
    assert result.stopped == "time limit" and result.step == read_bundle(tmp_path)[0] == 1


def test_the_log_can_be_watched(tmp_path):
    train(EXPERIMENT, make_toy(), tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [2, 4]
    assert lines[0]["train/learning_rate"] > 0 and any("eval/kernel" in line for line in lines)
    assert list((tmp_path / "events").iterdir())
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 8


def test_another_model_in_the_same_workdir_is_refused(tmp_path):
    fields = {field.name: getattr(EXPERIMENT, field.name) for field in dataclasses.fields(EXPERIMENT)}
    experiment = ToyExperiment(**fields)
    train(experiment, make_toy(), tmp_path, stop=stop_after(1), progress=False)
    with pytest.raises(ValueError, match="model=5, but the run in this workdir has 4"):
        train(dataclasses.replace(experiment, model=5), make_toy(), tmp_path, progress=False)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size=6 does not divide over 8 devices"):
        train(dataclasses.replace(EXPERIMENT, batch_size=6), make_toy(), tmp_path, progress=False)
