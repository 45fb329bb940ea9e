import numpy as np
import pytest
import soundfile
from PIL import Image

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.media.tags import read_named
from vasa_jax.media.video import read_video
from vasa_jax.synthetic import __main__ as door
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.performance import Emotion
from vasa_jax.synthetic.state import state_pose

SIZE = 32


@pytest.fixture(scope="module")
def clip():
    return make_clip(3, 1.0, SIZE, Emotion("happiness", 0.8))


def test_a_clip_carries_its_truth(clip):
    states = clip.performance.states
    assert clip.frames.shape == (25, SIZE, SIZE, 3) and clip.frames.dtype == np.uint8
    assert clip.audio.shape == (16_000,)
    shapes = {
        "pose": (25, 6),
        "gaze": (25, 2),
        "mouth": (25, 1),
        "lids": (25, 2),
        "expression": (25, 2),
        "regions": (25, 3, 4),
        "emotion": (8,),
    }
    assert {name: clip.labels[name].shape for name in shapes} == shapes
    assert clip.labels["identity"] == 3 and clip.labels["emotion"][4] == np.float32(0.8)
    assert clip.labels["phonemes"][0] == ("SIL", 0.0, clip.performance.phonemes[0][2])
    np.testing.assert_allclose(clip.labels["pose"], np.asarray(state_pose(states)), atol=1e-6)
    np.testing.assert_allclose(clip.labels["lids"], states.lids, atol=1e-6)
    np.testing.assert_allclose(clip.labels["expression"].T, [states.corner_pull, states.brow_raise], atol=1e-6)
    np.testing.assert_allclose(clip.labels["gaze"], states.gaze, atol=1e-5)  # the actor stays within the eyes' reach


def test_the_same_seed_gives_the_same_clip_and_another_seed_another(clip):
    again, other = make_clip(3, 1.0, SIZE, Emotion("happiness", 0.8)), make_clip(4, 1.0, SIZE)
    assert np.array_equal(again.frames, clip.frames) and np.array_equal(again.audio, clip.audio)
    assert np.abs(other.frames.astype(int) - clip.frames).mean() > 5
    assert not np.array_equal(clip.frames[0], clip.frames[-1])


def test_the_door_writes_a_video_with_sound(tmp_path, capsys):
    path = tmp_path / "clip.mp4"
    arguments = ["--out", str(path), "--seed", "3", "--seconds", "1", "--size", str(SIZE), "--emotion", "happiness:0.8"]
    assert door.main(arguments) == 0
    frames = np.stack(list(read_video(path)))
    assert frames.shape == (25, SIZE, SIZE, 3)
    truth = make_clip(3, 1.0, SIZE, Emotion("happiness", 0.8)).frames
    assert np.abs(frames.astype(int) - truth).mean() < 6
    assert str(path) in capsys.readouterr().out


def test_the_door_writes_a_portrait_and_its_speech(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "PORTRAIT_SIZE", SIZE)
    portrait, speech = tmp_path / "portrait.png", tmp_path / "speech.wav"
    assert door.main(["--portrait", str(portrait), "--speech", str(speech), "--seed", "4000000", "--seconds", "2"]) == 0
    with Image.open(portrait) as picture:
        assert picture.size == (SIZE, SIZE) and picture.mode == "RGB"
        tags = read_named(picture.info, picture.info["XML:com.adobe.xmp"])
    assert tags["digitalsourcetype"].endswith("/algorithmicMedia") and '"Label": "1"' in tags["aigc"]
    sound, rate = soundfile.read(speech)
    assert rate == SAMPLE_RATE and sound.shape == (32_000,) and np.abs(sound).max() > 0.02
    assert sorted(path.name for path in tmp_path.iterdir()) == ["portrait.png", "speech.wav"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--out", "clip.avi"],
        ["--out", "missing/clip.mp4"],
        ["--portrait", "portrait.jpg"],
        ["--sheet", "sheet.jpg"],
        ["--sheet", "sheet.png", "--seed", "4294967295"],
        ["--speech", "missing/speech.wav"],
        ["--out", "clip.mp4", "--size", "33"],
        ["--out", "clip.mp4", "--size", "0"],
        ["--out", "clip.mp4", "--seconds", "nan"],
        ["--out", "clip.mp4", "--seconds", "0"],
        ["--out", "clip.mp4", "--seed", "-1"],
        ["--out", "clip.mp4", "--seed", str(2**40)],
        ["--out", "clip.mp4", "--seed", "x"],
        ["--out", "frames/"],
        ["--speech", "a.wav", "--size", "64"],
        ["--portrait", "a.png", "--seconds", "3"],
        ["--portrait", "a.png", "--emotion", "anger"],
        ["--out", "a" * 252 + ".mp4"],
        ["--out", "clip.mp4", "--emotion", "joyful:0.5"],
        ["--out", "clip.mp4", "--unknown"],
    ],
    ids=" ".join,
)
def test_bad_input_ends_with_one_line_and_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert door.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "error" in said.err and not said.out
    assert not list(tmp_path.iterdir())
