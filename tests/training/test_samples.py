"""Sample videos of both stages, of the world and of somebody's own clips, by untrained networks of the tiny size."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests.training.tiny import STAGE_1, STAGE_2
from vasa_jax import config as configs
from vasa_jax.autoencoder import objective
from vasa_jax.checkpoint import save_release
from vasa_jax.data import read_clip, write_clip, write_shard
from vasa_jax.data.shards import open_shards
from vasa_jax.training import samples
from vasa_jax.training.config import Records
from vasa_jax.training.tasks import make_task

FRAMES = 12


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Stage 1 with fresh parameters."""
    folder = tmp_path_factory.mktemp("samples") / "release"
    params = jax.jit(lambda key: objective.init(STAGE_1.model, key)[0])(jax.random.key(0))
    config = {"autoencoder": json.loads(configs.to_json(STAGE_1.model))}
    save_release(folder, "vasa", config, {"autoencoder": params["autoencoder"]}, "float32", "")
    return folder, params


def test_stage_1_is_shown_a_performance_of_the_world(release, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SECONDS", 0.4)
    videos = make_task(STAGE_1).videos(release[1], {}, tmp_path)
    assert sorted(videos) == ["clip_0", "clip_1"]
    for video in videos.values():
        assert video.frames.shape == (10, 32, 64, 3) and video.frames.dtype == np.uint8
        assert np.abs(np.diff(video.frames[:, :, :32].astype(int), axis=0)).mean() > 0.1  # the left half moves
        assert video.audio is not None and len(video.audio) == 640 * 10


def test_stage_1_is_shown_own_clips_as_they_are(release, tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 32, 3)).astype(np.uint8)
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        write_shard(tmp_path / split / "a.array_record", [write_clip(clip, None, {})])
    videos = make_task(dataclasses.replace(STAGE_1, data=Records(path=str(tmp_path)))).videos(release[1], {}, tmp_path)
    stored = read_clip(open_shards(tmp_path / "validation")[0]).frames
    np.testing.assert_array_equal(videos["clip_0"].frames[:, :, :32], stored)


def test_stage_2_speaks_with_the_sound_of_its_clip(release, tmp_path):
    folder, _ = release
    data = dataclasses.replace(STAGE_2.data, clips=2, seconds=0.6)
    task = make_task(dataclasses.replace(STAGE_2, autoencoder=str(folder), data=data))
    task.prepare(tmp_path)
    statistics, _ = task.measure(tmp_path, None)
    params = jax.jit(lambda key: task.init(key)[0])(jax.random.key(0))
    (video,) = task.videos(params, statistics, tmp_path).values()
    clip = read_clip(open_shards(tmp_path / "data" / "validation")[0])
    assert video.frames.shape == (15, 32, 32, 3) and clip.labels["portrait"].shape == (32, 32, 3)
    np.testing.assert_array_equal(video.audio, clip.audio)
