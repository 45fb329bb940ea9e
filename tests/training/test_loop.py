import dataclasses
import json
import os
import signal
import struct
import sys
import time

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from tests.training.toy import EXPERIMENT, ToyExperiment, make_toy
from vasa_jax.arrays import Average
from vasa_jax.doors import train as door
from vasa_jax.errors import UserError
from vasa_jax.media.video import read_video
from vasa_jax.training import loop, tasks
from vasa_jax.training.bundles import read_bundle
from vasa_jax.training.config import OptimiserConfig
from vasa_jax.training.goodput import Goodput, describe
from vasa_jax.training.lock import locked
from vasa_jax.training.logs import Logs, NonFiniteError
from vasa_jax.training.logs import _means as logs_means
from vasa_jax.training.loop import train
from vasa_jax.training.start import Start


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
    assert [line["step"] for line in lines if "judge/kernel" in line] == [4]
    assert list((tmp_path / "events").iterdir())
    assert np.shape(list(read_video(tmp_path / "samples" / "grey-00000004.mp4"))) == (3, 8, 8, 3)
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 8


def test_what_was_logged_after_the_checkpoint_is_dropped(tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, steps=6, log_every=1, save_every=4)
    train(experiment, make_toy(), tmp_path, progress=False, stop=stop_after(4))
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "train/loss": 7.0}\n{"step": 5, "trai')  # killed in the middle of a line
    train(experiment, make_toy(), tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    logged = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5, 6] and all(loss != 7.0 for _, loss in logged)


def test_a_run_tells_its_speed_its_wait_and_its_memory(tmp_path):
    train(EXPERIMENT, make_toy(), tmp_path, progress=False)
    line = next(line for line in map(json.loads, (tmp_path / "log.jsonl").open()) if "train/loss" in line)
    assert line["train/steps_per_second"] > 0 and 0 <= line["train/data_wait"] <= 1
    assert line["train/samples_per_second"] == pytest.approx(8 * line["train/steps_per_second"], rel=1e-4)
    # A product of (8, 3) and (3, 2), and of its gradient; the input needs none.
    flops = 2 * (8 * 3 * 2) * 2
    assert line["train/teraflops_per_second"] == pytest.approx(flops * line["train/steps_per_second"] / 1e12, rel=1e-4)
    assert 0.01 < line["train/host_gib"] < 100 and line["train/data_skipped"] == 0
    assert line["train/gradient_norm/dense"] == pytest.approx(line["train/gradient_norm"], rel=1e-5)


def toy(**fields):
    return ToyExperiment(**{f.name: getattr(EXPERIMENT, f.name) for f in dataclasses.fields(EXPERIMENT)} | fields)


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"model": 5},
            "model 4 -> 5; repeat the old values, choose another --workdir, or allow it with --allow-config",
        ),
        ({"seed": 1, "log_every": 1}, "seed 0 -> 1, log_every 2 -> 1"),
        ({"optimiser": OptimiserConfig(learning_rate=0.5, warmup=2)}, "optimiser.learning_rate 0.01 -> 0.5"),
    ],
)
def test_another_config_in_the_same_workdir_is_refused_and_shown(tmp_path, fields, message):
    train(toy(), make_toy(), tmp_path, stop=stop_after(1), progress=False)
    with pytest.raises(ValueError, match=message):
        train(toy(**fields), make_toy(), tmp_path, progress=False)


def test_a_change_that_is_named_is_allowed_and_logged(tmp_path):
    train(toy(), make_toy(), tmp_path, stop=stop_after(2), progress=False)
    optimiser = OptimiserConfig(learning_rate=0.5, warmup=2)
    longer = toy(steps=6, optimiser=optimiser)
    with pytest.raises(ValueError, match="optimiser.learning_rate 0.01 -> 0.5") as error:
        train(longer, make_toy(), tmp_path, Start(allow_config_change=("steps",)), progress=False)
    assert "steps 4 -> 6" not in str(error.value)
    with pytest.raises(ValueError, match="allow_config_change='speed' is no field"):
        train(longer, make_toy(), tmp_path, Start(allow_config_change=("speed",)), progress=False)
    result = train(longer, make_toy(), tmp_path, Start(allow_config_change=("steps", "optimiser")), progress=False)
    assert result.step == 6 and "0.01 -> 0.5" in (tmp_path / "log.jsonl").read_text()
    assert train(longer, make_toy(), tmp_path, progress=False).digest == result.digest  # allowed once, then saved


def broken_toy(error):
    def forward(*arguments):
        raise error

    return dataclasses.replace(make_toy(), forward=forward)


def test_a_device_without_memory_ends_in_a_line_with_the_ways_out(tmp_path):
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes.")
    with pytest.raises(UserError) as refused:
        train(EXPERIMENT, broken_toy(error), tmp_path, progress=False)
    for word in ("ran out of memory", "batch_size=8", "--accumulate N", "--remat", "--dtype", "--parallel sharded"):
        assert word in str(refused.value)


def test_a_mistake_of_a_fork_keeps_its_traceback_through_the_door(tmp_path, monkeypatch):
    """JAX raises ValueErrors for shapes that do not fit, too."""
    monkeypatch.setattr(tasks, "make_task", lambda _: broken_toy(ValueError("conv_general_dilated lhs feature dim")))
    with pytest.raises(ValueError, match="conv_general_dilated") as raised:
        door.main(["demo_autoencoder", "--workdir", str(tmp_path), "--batch-size", "8"])
    assert not isinstance(raised.value, UserError)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--workdir", "{}/f"], "--workdir {}/f is a file; name a folder"),
        (["--workdir", "/proc/x"], "cannot make the folder /proc/x"),
        (["--workdir", "gs://bucket/run"], "--workdir gs://bucket/run is a URL"),
        (["--workdir", "{}/run", "--resume", "s3://bucket/run"], "--resume s3://bucket/run is a URL"),
        (["--workdir", "{}/run", "--init-from", "https://a.b/c"], "--init-from https://a.b/c is a URL"),
        (["--workdir", "{}/run", "--data.path", "hdfs://a/b"], "--data.path hdfs://a/b is a URL"),
        (
            ["--workdir", "{}/r", "--objective.face", "1", "--helpers.face.weights", "gs://a/b"],
            "--helpers.face.weights gs://a/b is a URL",
        ),
    ],
)
def test_places_that_cannot_be_used_are_refused_before_work(tmp_path, capsys, flags, message):
    (tmp_path / "f").touch()
    assert door.main(["demo_autoencoder", *(flag.format(tmp_path) for flag in flags)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(tmp_path) in line and [path.name for path in tmp_path.iterdir()] == ["f"]


def test_numbers_that_are_not_finite_are_null_in_the_log_and_in_tensorboard_what_they_are(tmp_path):
    with Logs(tmp_path, 3, {}) as logs:
        logs.scalars(4, {"eval/a": float("nan"), "eval/b": 1.5})
    log = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail)
    assert log["eval/a"] is None and log["eval/b"] == 1.5
    (file,) = (tmp_path / "events").iterdir()
    content, events = file.read_bytes(), []
    while content:  # TensorFlow's records: length, its checksum, the event, its checksum
        (length,) = struct.unpack("<Q", content[:8])
        checksums = [struct.unpack("<I", content[i : i + 4])[0] for i in (8, 12 + length)]
        assert checksums == [masked_crc32c(content[:8]), masked_crc32c(content[12 : 12 + length])]
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    assert events[0].file_version == "brain.Event:2" and events[1].step == 4 and events[1].HasField("session_log")
    assert [(event.step, event.summary.value[0].tag) for event in events[2:]] == [(4, "eval/a"), (4, "eval/b")]
    assert np.isnan(events[2].summary.value[0].simple_value) and events[3].summary.value[0].simple_value == 1.5


def test_means_of_labels_count_the_samples_that_have_them():
    first = {"loss": 1.0, "pose": Average(3.0, 1.0), "mouth": Average(0.0, 0.0)}
    second = {"loss": 2.0, "pose": Average(1.0, 3.0), "mouth": Average(0.0, 0.0)}
    assert logs_means([first, second]) == {"loss": 1.5, "pose": 1.0}


def test_two_runs_in_one_workdir_are_refused(tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match=f"is in use by process {os.getpid()} on "):
        train(EXPERIMENT, make_toy(), tmp_path, progress=False)
    assert train(EXPERIMENT, make_toy(), tmp_path, progress=False).step == 4


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size=6 does not divide over 8 devices"):
        train(dataclasses.replace(EXPERIMENT, batch_size=6), make_toy(), tmp_path, progress=False)


class FakeWandb:
    """What the loop calls of Weights & Biases, kept."""

    def __init__(self):
        self.calls, self.logged = [], []

    def init(self, **named):
        self.calls.append(named)
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self, exit_code):
        self.calls.append({"exit_code": exit_code})

    def Image(self, picture):  # noqa: N802 (its name there)
        return np.shape(picture)

    def Video(self, path):  # noqa: N802
        return path


def test_weights_and_biases_gets_the_same_and_one_workdir_is_one_run(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(EXPERIMENT, make_toy(), tmp_path, stop=stop_after(2), progress=False, wandb="faces")
    train(EXPERIMENT, make_toy(), tmp_path, progress=False, wandb="faces")
    first, ended, second, _ = fake.calls
    assert first["project"] == "faces" and first["id"] == second["id"] and first["resume"] == "allow"
    assert first["config"]["batch_size"] == 8 and ended == {"exit_code": 0}
    scalars = [step for step, values in fake.logged if "train/loss" in values]
    assert scalars == [2, 4]
    named = {name: value for _, values in fake.logged for name, value in values.items()}
    assert named["grey"] == str(tmp_path / "samples" / "grey-00000004.mp4") and "eval/kernel" in named


def test_weights_and_biases_must_be_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="wandb is not installed: pip install"):
        train(EXPERIMENT, make_toy(), tmp_path, progress=False, wandb="faces")


def test_milestones_and_releases_stay(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(loop, "write", lambda workdirs, out: written.append((workdirs, out.name)))
    experiment = dataclasses.replace(EXPERIMENT, steps=8, save_every=1, keep=1, keep_every=3, export_every=4)
    train(experiment, make_toy(), tmp_path, progress=False)
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()) == [3, 6, 8]
    assert written == [([tmp_path], "00000004"), ([tmp_path], "00000008")]


def test_chosen_steps_are_traced(tmp_path):
    train(EXPERIMENT, make_toy(), tmp_path, progress=False, profile=(2,))
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 1
    with pytest.raises(UserError, match=r"profile_steps=5 must lie between 1 and 4"):
        train(EXPERIMENT, make_toy(), tmp_path, progress=False, profile=(5,))


def test_goodput_adds_up_and_says_what_a_restart_has_lost(tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, steps=6, log_every=1, save_every=100)
    begun = time.monotonic()
    first = train(experiment, make_toy(), tmp_path, stop=stop_after(3), progress=False)
    assert sum(first.goodput.values()) == pytest.approx(time.monotonic() - begun, rel=0.3)
    assert first.goodput["compiling"] > 0 and first.goodput["lost"] == 0
    second = train(experiment, make_toy(), tmp_path, progress=False)
    assert all(second.goodput[kind] >= spent for kind, spent in first.goodput.items())
    lines = [{"step": step, "goodput/useful": 10.0 * step, "goodput/saving": 1.0} for step in (1, 2, 3)]
    told = [*map(json.dumps, lines), '{"step": 3, "goodput/use', '{"step": 9, "eval/loss": 1.0}']
    again = Goodput(told, first=2).totals(waited=0.0)
    assert again["lost"] == pytest.approx(10.0) and again["useful"] == pytest.approx(20.0, abs=1.0)
    assert again["saving"] == 1.0
    assert describe({"useful": 90.0, "lost": 10.0, "saving": 0.01}) == "goodput over 0.03 h: useful 90.0%, lost 10.0%"
