"""The soak in seconds: both ways through a tiny model, and its slopes and skews on what is known."""

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from benchmarks import soak
from tests.inference.tiny import write_release
from vasa_jax.arrays import Motion
from vasa_jax.media.live import LiveWriter
from vasa_jax.media.video import VideoWriter
from vasa_jax.motion.statistics import Statistics

CURVES = {"pitch", "yaw", "roll", "x", "y", "distance", "mouth", "lids", "gaze_x", "gaze_y", "code", "step"}


@pytest.mark.parametrize("r", [0.0, 0.5, 0.8])
def test_an_interval_holds_the_true_slope_as_often_as_it_says(r):
    random, times, inside = np.random.default_rng(0), np.arange(300.0), []
    for _ in range(400):
        noise = lfilter([1.0], [1.0, -r], random.normal(size=400))
        line = soak.fit(times, 0.01 * times + noise[100:])
        inside.append(line.low <= 0.01 <= line.high)
    assert 0.9 <= np.mean(inside) <= 0.98


def test_what_never_moves_has_a_slope_of_exactly_0():
    still = soak.fit(np.arange(40.0), np.full(40, 40.783872))
    assert still == (0.0, 0.0, 0.0, 1.0)


def test_memory_is_flat_or_grows():
    noise = np.random.default_rng(0).normal(size=720)
    hours = np.arange(720) * soak.BLOCK / soak.FPS / 3600
    for growth, verdict in (
        (0, "flat (20)"),
        (10, "grows within the bar (20)"),
        (40, "BEYOND the bar (20)"),
        (-40, "flat (20)"),
    ):
        assert soak.memory_row(900 + noise + growth * hours).endswith(verdict), growth
    assert soak.memory_row(900 + np.tile([0.0, 1.0], 12)).endswith("too short a run to tell (20)")
    assert soak.memory_row(np.ones(4)) == "memory: too short a run"


def test_a_head_that_turns_slowly_drifts_and_nothing_else(monkeypatch):
    monkeypatch.setattr(soak, "BLOCK", 25)
    random, frames = np.random.default_rng(0), 2000
    curves = soak.Curves(Statistics(np.zeros(6), np.ones(6), np.zeros(5), np.eye(5), np.ones(5)))
    pose = 0.01 * random.normal(size=(frames, 6)).astype(np.float32)
    pose[:, 1] += np.radians(3.0) * np.arange(frames) / 1500  # three degrees a minute
    code = random.normal(size=(frames, 5)).astype(np.float32)
    for at in range(0, frames, 40):
        curves.append(Motion(pose[at : at + 40], code[at : at + 40]))
    assert np.array(curves.means).shape == (80, 12) and not len(curves)
    rows = {line.split()[0]: line for line in soak.drift_table(curves).splitlines()[2:]}
    assert rows.keys() == CURVES
    assert [name for name, row in rows.items() if row.endswith("drift")] == ["yaw"]
    assert 2.5 < float(rows["yaw"].split()[1]) < 3.5


@pytest.mark.parametrize("kind, late", [("mp4", 3), ("mkv", 0), ("live", 0), ("live", 3)])
def test_skew_is_found_where_there_is_one(tmp_path, kind, late):
    """Pictures that come three frames early."""
    sound, count = tmp_path / "sound.wav", 130
    soak.speak(sound, (count + late) / 25)
    y, x = np.mgrid[:32, :32]
    frames = [
        np.stack([127 + 100 * np.sin(x / 9 + i / 5 + np.sin(i * i)), 127 + 100 * np.sin(y / 7 - i / 3), x], -1)
        for i in range(count)
    ]
    frames = [frame.astype(np.uint8) for frame in frames]
    out = tmp_path / f"a.{'mp4' if kind == 'live' else kind}"
    if kind == "live":
        samples, _ = soundfile.read(sound, dtype="float32")
        with open(out, "wb") as file, LiveWriter(file, (32, 32)) as writer:
            for i in range(late, count, 5):
                part = np.stack(frames[i : i + 5])
                writer.write(part, samples[640 * (i - late) : 640 * (i - late + len(part))])
    else:
        with VideoWriter(out, 25, (32, 32), sound) as writer:
            for frame in frames[late:]:
                writer.write(frame)
    found = soak.skew(out, sound, frames[-100:], count)
    assert found.sound == pytest.approx(0.0, abs=1.0) and found.picture == pytest.approx(-40.0 * late, abs=1.0)
    assert 0.0 <= found.longer <= 64.0  # a block of AAC that is not full
    assert ("within" if late == 0 else "BEYOND") in soak.skew_row(found)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return str(write_release(tmp_path_factory.mktemp("soak") / "tiny"))


def test_seconds_of_a_stream_are_soaked(capsys, monkeypatch, tmp_path, release):
    """With pictures that are drawn once; three tables on the way, and one at the end."""
    monkeypatch.setattr(soak, "BLOCK", 5)
    monkeypatch.setattr(soak, "REPORT", 1 / 60)
    out = tmp_path / "talk.mp4"
    soak.main(["--stream", "0.001", "--drawn", "0.4", "--model", release, "--steps", "1", "--out", str(out)])
    printed = capsys.readouterr().out
    assert printed.count("frames a second") == printed.count("memory: ") == 4
    assert ": 90 frames" in printed and "\nskew at the end: " in printed
    assert CURVES <= {line.split()[0] for line in printed.splitlines() if line} and out.stat().st_size


def test_seconds_of_a_file_are_soaked_also_where_it_is_stopped(capsys, monkeypatch, release):
    """As by Ctrl-C after sixty frames."""
    monkeypatch.setattr(soak, "BLOCK", 5)
    see = soak.Watch.see

    def stopping(watch, frame):
        see(watch, frame)
        watch.stopped = watch.frames >= 60

    monkeypatch.setattr(soak.Watch, "see", stopping)
    soak.main(["--offline", "0.001", "--model", release, "--steps", "1"])
    printed = capsys.readouterr().out
    assert ": 60 frames" in printed and "\nskew at the end: " in printed


def test_only_a_stream_has_a_clock(capsys):
    with pytest.raises(SystemExit):
        soak.main(["--offline", "1", "--paced"])
    assert "--paced is of --stream" in capsys.readouterr().err
