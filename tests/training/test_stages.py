import dataclasses

import jax
import numpy as np
import pytest

from tests.training.tiny import MOTION, STAGE_1, STAGE_2
from vasa_jax.checkpoint import load_release
from vasa_jax.data.pipeline import open_shards
from vasa_jax.data.records import read_clip, write_clip
from vasa_jax.motion.objective import batch_spec
from vasa_jax.training import tasks
from vasa_jax.training.config import Experiment, to_saved
from vasa_jax.training.export import export, main
from vasa_jax.training.loop import train
from vasa_jax.training.tasks import load_autoencoder, make_task, motion_sample


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


def test_both_stages_train_two_steps_under_pmap(runs):
    folder, results = runs
    assert [result.step for result in results] == [2, 2] and results[0].digest != results[1].digest
    clip = read_clip(open_shards(folder / "1" / "data" / "train")[0])
    assert clip.frames.shape == (3, 32, 32, 3) and clip.frames.std() > 10
    assert clip.labels["regions"].shape == (3, 3, 4) and len(open_shards(folder / "1" / "data" / "validation")) == 2
    clip = read_clip(open_shards(folder / "2" / "data" / "train")[0])
    assert clip.labels["dynamics"].shape == (25, 6) and not len(clip.frames)
    assert clip.audio is not None and len(clip.audio) == 640 * 25
    assert "directions carry" in (folder / "2" / "statistics.txt").read_text()


def test_runs_become_a_release_and_a_release_serves_stage_2(runs, tmp_path):
    folder, _ = runs
    sizes = export([folder / "1", folder / "2"], tmp_path / "r", "float32")
    release = load_release(tmp_path / "r")
    assert set(sizes) == {"autoencoder", "motion"} and "2 steps" in release.card
    assert set(release.tensors) == {"autoencoder", "motion", "statistics"}
    assert release.tensors["statistics"]["rotation"].shape == (6, 6)
    config, params = load_autoencoder(str(tmp_path / "r"))
    same_config, same_params = load_autoencoder(str(folder / "1"))
    assert config == same_config == STAGE_1.model
    jax.tree.map(np.testing.assert_array_equal, params, same_params)
    assert main([str(folder / "1"), str(folder / "1"), "--out", str(tmp_path / "q")]) == 2
    assert main([str(tmp_path), "--out", str(tmp_path / "q")]) == 2 and not (tmp_path / "q").exists()


def test_stage_2_without_stage_1_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="needs --autoencoder"):
        make_task(STAGE_2).prepare(tmp_path)
    with pytest.raises(ValueError, match="not a release folder"):
        make_task(dataclasses.replace(STAGE_2, autoencoder=str(tmp_path))).prepare(tmp_path)
    for stage, match in ((STAGE_2, "is of stage 'motion'; name a stage 1 run"), (Experiment(), "of no known stage")):
        monkeypatch.setattr(tasks, "read_bundle", lambda source, stage=stage: (1, to_saved(stage), {}))
        (tmp_path / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
        with pytest.raises(ValueError, match=match):
            load_autoencoder(str(tmp_path / "run"))


def test_a_window_hears_its_own_sound():
    frames = np.arange(20)
    audio = np.repeat(frames, 640).astype(np.float32) / 100
    labels = {
        "pose": np.tile(frames[:, None], (1, 6)).astype(np.float32),
        "dynamics": np.zeros((20, 6), np.float32),
        "gaze": np.tile(frames[:, None], (1, 2)).astype(np.float32),
    }
    sample = motion_sample(read_clip(write_clip(None, audio, labels)), 5, 2, 6)
    heard = sample["samples"][256 : 256 + 640 * 8].reshape(8, 640)
    np.testing.assert_allclose(heard[:, 0], frames[5:13] / 100, atol=1e-6)
    assert sample["samples"][0] == np.float32(0.04) and sample["samples"][-1] == np.float32(0.13)
    assert sample["gaze"].tolist() == [9.5, 9.5] and sample["distance"].tolist() == [9.5]  # the window, not its context
    assert np.isnan(sample["emotion"]).all()
    first = motion_sample(read_clip(write_clip(None, audio, labels)), 0, 2, 6)
    last = motion_sample(read_clip(write_clip(None, audio, labels)), 12, 2, 6)
    assert (first["samples"][:256] == 0).all() and (last["samples"][-96:] == 0).all()
    for name, spec in batch_spec(MOTION, 1).items():
        assert last[name].shape == spec.shape[1:] and last[name].dtype == spec.dtype, name
