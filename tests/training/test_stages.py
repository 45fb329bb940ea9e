import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training.tiny import MOTION, STAGE_1, STAGE_2
from vasa_jax.checkpoint import load_release
from vasa_jax.data.records import read_clip, write_clip
from vasa_jax.data.shards import open_shards
from vasa_jax.doors.evaluate import open_source
from vasa_jax.motion.objective import batch_spec
from vasa_jax.motion.statistics import Statistics
from vasa_jax.training import stage_1
from vasa_jax.training.bundles import read_bundle
from vasa_jax.training.config import Experiment, OptimiserConfig, Records, to_saved
from vasa_jax.training.export import export, main
from vasa_jax.training.loop import train
from vasa_jax.training.motion_task import motion_sample
from vasa_jax.training.stage_1 import load_autoencoder
from vasa_jax.training.start import Start, initial, with_stage_1
from vasa_jax.training.tasks import make_task


def quick(task):
    return dataclasses.replace(task, evaluate=lambda *_: {}, pictures=lambda *_: {}, videos=lambda *_: {})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two steps of both stages on eight devices, the second on the first's codes."""
    folder = tmp_path_factory.mktemp("runs")
    first = dataclasses.replace(STAGE_1, parallel="pmap")
    second = dataclasses.replace(STAGE_2, parallel="pmap", autoencoder=str(folder / "1"))
    return folder, [
        train(experiment, quick(make_task(experiment)), folder / name, progress=False)
        for name, experiment in (("1", first), ("2", second))
    ]


@pytest.mark.users_compiler
def test_both_stages_train_two_steps_under_pmap(runs):
    folder, results = runs
    assert [result.step for result in results] == [2, 2] and results[0].digest != results[1].digest
    clip = read_clip(open_shards(folder / "1" / "data" / "train")[0])
    assert clip.frames.shape == (3, 32, 32, 3) and clip.frames.std() > 10
    assert clip.labels["regions"].shape == (3, 3, 4) and len(open_shards(folder / "1" / "data" / "validation")) == 2
    clip = read_clip(open_shards(folder / "2" / "data" / "train")[0])
    assert clip.labels["dynamics"].shape == (25, 8) and not len(clip.frames)
    assert clip.audio is not None and len(clip.audio) == 640 * 25
    assert "directions carry" in (folder / "2" / "statistics.txt").read_text()


def test_runs_become_a_release_and_a_release_serves_stage_2(runs, tmp_path):
    folder, _ = runs
    sizes = export([folder / "1", folder / "2"], tmp_path / "r", "float32")
    release = load_release(tmp_path / "r")
    assert set(sizes) == {"autoencoder", "motion"} and "2 steps" in release.card
    assert set(release.tensors) == {"autoencoder", "motion", "statistics"}
    assert release.tensors["statistics"]["rotation"].shape == (8, 8)
    config, params = load_autoencoder(str(tmp_path / "r"))
    same_config, same_params = load_autoencoder(str(folder / "1"))
    assert config == same_config == STAGE_1.model
    jax.tree.map(np.testing.assert_array_equal, params, same_params)


def test_runs_are_judged(runs):
    """By themselves, on held-out clips, and by the door: stage 2 with the stage 1 that it was trained on."""
    folder, _ = runs
    task = make_task(dataclasses.replace(STAGE_2, autoencoder=str(folder / "1")))
    _, _, state = read_bundle(folder / "2")
    numbers = task.judge(state["ema"], Statistics(**state["constants"]), folder / "2")
    assert set(numbers) == {"seam/pose", "seam/dynamics", "jitter", "amplitude", "mouth"}
    assert all(np.isfinite(value) for value in numbers.values()) and -1 <= numbers["mouth"] <= 1
    one, two = (open_source(str(folder / name)) for name in ("1", "2"))
    assert one.model is None and one.face is not None and one.face[1] == STAGE_1.model.image_size
    assert two.face is None and two.model is not None and two.model.motion.config == STAGE_2.model
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(two.model.motion.params), state["ema"])


def test_export_refuses_in_one_line_and_touches_nothing(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, _ = runs
    one, two = str(folder / "1"), str(folder / "2")
    for name, text in (("file", b""), ("latin.md", "Größe".encode("latin-1"))):
        (tmp_path / name).write_bytes(text)
    (tmp_path / "empty").mkdir()
    inside = sorted(path for run in (one, two) for path in Path(run).rglob("*"))
    for arguments, match in (
        ([one, one, "--out", "q"], "is a second run of stage 'autoencoder'"),
        (["empty", "--out", "q"], "holds no run"),
        ([one, "--out", one], "--out .* would overwrite the run"),
        ([one, "--out", f"{one}/release"], "--out .* would overwrite the run"),
        ([one, "--out", str(folder)], "--out .* would overwrite the run"),
        ([one, "--out", two], "exists and is not a release"),
        ([one, "--out", f"{two}/release"], "lies in the training run"),
        ([one, "--out", "file/release"], "file is not a folder"),
        ([one, "--out", "q", "--card", "nothing.md"], "cannot read nothing.md"),
        ([one, "--out", "q", "--card", "latin.md"], "cannot read latin.md: .*name a Markdown file"),
    ):
        assert main(arguments) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and re.search(match, lines[0]), lines
    assert sorted(path for run in (one, two) for path in Path(run).rglob("*")) == inside
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "latin.md"]


def test_fine_tuning_starts_at_the_loss_of_its_source(runs, tmp_path, caplog):
    """On clips of other people: with the source's statistics the held-out loss is the source's own, with statistics of
    the new clips it is another."""
    folder, _ = runs
    others = dataclasses.replace(STAGE_2.data, first_seed=500, clips=4)
    slow = OptimiserConfig(learning_rate=1e-9, final_learning_rate=0.0)
    experiment = dataclasses.replace(STAGE_2, data=others, optimiser=slow, steps=1, ema=0.0)
    start = Start(init_from=str(folder / "2"))
    experiment = with_stage_1(experiment, start)
    assert experiment.autoencoder == str(folder / "1")
    task = make_task(experiment)
    train(experiment, dataclasses.replace(task, pictures=lambda *_: {}, videos=lambda *_: {}), tmp_path, start)
    notes = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    after = next(note["eval/loss"] for note in notes if "eval/loss" in note)

    _, _, state = read_bundle(folder / "2")
    held_out = task.held_out(tmp_path)
    own = Statistics(**state["constants"])
    assert after == pytest.approx(task.evaluate(state["ema"], own, held_out)["loss"], rel=0.01)
    _, _, tuned = read_bundle(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, Statistics(**tuned["constants"]), own)

    refitted, remarks = task.measure(tmp_path, None)
    assert remarks == {}
    assert abs(task.evaluate(state["ema"], refitted, held_out)["loss"] / after - 1) > 0.05
    note = next(note["statistics"] for note in notes if "statistics" in note)
    assert re.search(r"kept .* on these clips \d+ of 14 normalised components are off", note)

    shapes = jax.eval_shape(task.init, jax.random.key(0))
    arguments = experiment, shapes[0], task.blocks(shapes[0])
    assert initial(dataclasses.replace(start, refit_statistics=True), *arguments, shapes[1]).constants is None
    larger = Statistics(*(jax.ShapeDtypeStruct((7, 7)[: leaf.ndim], leaf.dtype) for leaf in shapes[1]))
    with pytest.raises(ValueError, match=r"has statistics pose_mean \(6,\), this run \(7,\).*--refit-statistics"):
        initial(start, *arguments, larger)


def test_statistics_that_fit_badly_are_warned_about_with_numbers(runs, tmp_path, caplog):
    folder, _ = runs
    experiment = dataclasses.replace(
        STAGE_2, autoencoder=str(folder / "1"), data=Records(path=str(folder / "2" / "data"), threads=1)
    )
    task = make_task(experiment)
    statistics, _ = task.measure(tmp_path, None)
    elsewhere = statistics._replace(pose_mean=statistics.pose_mean + 10 * statistics.pose_scale)
    kept, remarks = task.measure(tmp_path, elsewhere)
    assert kept is elsewhere and "has mean -10" in remarks["statistics"]
    assert "has mean -10" in caplog.text and "--refit-statistics" in caplog.text
    assert "has mean -10" in (tmp_path / "statistics.txt").read_text()


def test_stage_2_without_stage_1_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="needs --autoencoder"):
        make_task(STAGE_2).prepare(tmp_path)
    with pytest.raises(ValueError, match="not a release folder"):
        make_task(dataclasses.replace(STAGE_2, autoencoder=str(tmp_path))).prepare(tmp_path)
    for stage, match in ((STAGE_2, "is of stage 'motion'; name a stage 1 run"), (Experiment(), "of no known stage")):
        monkeypatch.setattr(stage_1, "read_bundle", lambda source, stage=stage: (1, to_saved(stage), {}))
        (tmp_path / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
        with pytest.raises(ValueError, match=match):
            load_autoencoder(str(tmp_path / "run"))


def test_a_window_hears_its_own_sound():
    frames = np.arange(20)
    audio = np.repeat(frames, 640).astype(np.float32) / 100
    labels = {
        "pose": np.tile(frames[:, None] / 10, (1, 6)).astype(np.float32),
        "dynamics": np.zeros((20, 8), np.float32),
        "gaze": np.tile(frames[:, None] / 10, (1, 2)).astype(np.float32),
    }
    sample = motion_sample(read_clip(write_clip(None, audio, labels)), 5, 2, 6)
    heard = sample["samples"][256 : 256 + 640 * 8].reshape(8, 640)
    np.testing.assert_allclose(heard[:, 0], frames[5:13] / 100, atol=1e-6)
    assert sample["samples"][0] == np.float32(0.04) and sample["samples"][-1] == np.float32(0.13)
    np.testing.assert_allclose(sample["gaze"], 0.95, atol=1e-6)  # the window, not its context
    np.testing.assert_allclose(sample["distance"], 0.95, atol=1e-6)
    assert np.isnan(sample["emotion"]).all()
    first = motion_sample(read_clip(write_clip(None, audio, labels)), 0, 2, 6)
    last = motion_sample(read_clip(write_clip(None, audio, labels)), 12, 2, 6)
    assert (first["samples"][:256] == 0).all() and (last["samples"][-96:] == 0).all()
    for name, spec in batch_spec(MOTION, 1).items():
        assert last[name].shape == spec.shape[1:] and last[name].dtype == spec.dtype, name
