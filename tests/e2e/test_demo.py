"""Three characters in a row: what is written, who moves, what stands below, and what is refused."""

from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from vasa_jax.arrays import EMOTIONS, SAMPLE_RATE
from vasa_jax.doors import demo
from vasa_jax.inference.controls import make_controls
from vasa_jax.media.row import row_shape
from vasa_jax.media.video import read_video
from vasa_jax.provenance.detector import examine
from vasa_jax.synthetic.cast import Character, portraits
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.splits import split_of

TURN = 6


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of a few frames."""
    monkeypatch.setattr(demo, "TURN", TURN)
    monkeypatch.setattr(demo, "SAMPLING", {"sampler": "dpm++", "steps": 2})


def test_video_and_gallery_are_marked_and_only_who_speaks_moves(release, tmp_path, capsys):
    video, gallery = tmp_path / "talk.mp4", tmp_path / "gallery.png"
    given = ["--model", str(release), "--out", str(video), "--gallery", str(gallery)]
    assert demo.main(given) == 0, capsys.readouterr().err
    assert "talk.mp4: 0.7 s of video" in capsys.readouterr().out
    frames = list(read_video(video))
    assert len(frames) == 3 * TURN and frames[0].shape == (*row_shape(3, demo.SIDE), 3)
    with Image.open(gallery) as picture:
        assert picture.n_frames == 3 * -(-TURN // demo.GALLERY_EVERY)  # pyright: ignore[reportAttributeAccessIssue]
        assert picture.size == row_shape(3, demo.GALLERY_SIDE)[::-1]
    for path in (video, gallery):
        report = examine(path)
        assert report.verdict == "marked" and report.statement["options"]["a person"] == "gaze left; gaze right"
    assert examine(video).watermark_found is not None


def test_only_who_speaks_moves():
    random = np.random.default_rng(0)
    drawn = [random.integers(0, 256, (TURN, 32, 32, 3), np.uint8) for _ in range(3)]
    given = random.integers(0, 256, (3, 32, 32, 3), np.uint8)
    show: Any = demo.Show(drawn, np.zeros(0, np.float32), given, None)  # pyright: ignore[reportArgumentType]
    frames = np.stack(list(demo.compose(show, 32)))
    tiles = frames[:, :32].reshape(3, TURN, 32, 3, 32, 3)  # turn, time, y, place, x, colour
    for turn in range(3):
        for place in range(3):
            expected = drawn[place] if turn == place else drawn[place][[0 if turn < place else -1] * TURN]
            np.testing.assert_array_equal(tiles[turn, :, :, place], expected)
    np.testing.assert_array_equal(np.stack(list(demo.compose(show, 32, 2))), frames[::2])


@pytest.mark.long
def test_characters_are_drawn_and_voiced_by_the_world():
    cast = {"person": (4_000_034, "plain"), "painting": (4_000_004, "painted"), "statue": (4_000_024, "stone")}
    assert {act.file for act in demo.ACTS} == cast.keys()
    assert {split_of(seed) for seed, _ in cast.values()} == {"demo"}
    pictures = portraits([Character(*cast[act.file]) for act in demo.ACTS], 256)
    for act, picture in zip(demo.ACTS, pictures, strict=True):
        with Image.open(demo.CHARACTERS / f"{act.file}.png") as kept:
            apart = np.abs(np.asarray(kept, int) - picture)
        assert apart.mean() < 0.5, act.file  # compilers may differ at an edge
        voice, rate = soundfile.read(demo.CHARACTERS / f"{act.file}.wav", dtype="float32")
        assert rate == SAMPLE_RATE
        np.testing.assert_allclose(voice, perform(cast[act.file][0], 3.2).audio, atol=1e-4)


def test_every_character_is_asked_for_something_else():
    assert len({frozenset(act.parts[0]) for act in demo.ACTS}) == 3
    for act in demo.ACTS:
        make_controls(**demo.tracks(act.parts))


def test_a_caption_tells_what_is_asked_at_that_time():
    icons = [np.zeros((4, 4, 3), np.uint8)] * 3
    told = demo.captions(icons, 1, TURN // 2)
    assert [caption.lines[1] for caption in told] == ["gaze right", "distance 0.85", "emotion happy"]
    assert [caption.lit for caption in told] == [False, True, False]
    felt = make_controls(**demo.tracks(demo.ACTS[2].parts)).emotion
    assert [EMOTIONS[row.argmax()] for row in felt] == ["happiness"] * 3 + ["sadness"] * 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to write; give --out or --gallery"),
        (["--out", "talk.gif"], "must end in one of"),
        (["--gallery", "gallery.gif"], "must end in .png"),
        (["--out", "talk.mp4", "--model", "nobody"], "the model 'nobody' is not there"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert demo.main(flags) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not list(tmp_path.iterdir())
