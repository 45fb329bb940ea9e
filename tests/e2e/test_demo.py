"""Three characters in a row: what is written, what stands below, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from vasa_jax.arrays import EMOTIONS
from vasa_jax.doors import demo
from vasa_jax.inference.controls import make_controls
from vasa_jax.media.row import row_shape
from vasa_jax.media.video import read_video
from vasa_jax.provenance.detector import examine
from vasa_jax.synthetic.cast import STYLES
from vasa_jax.synthetic.splits import split_of

TURN = 6


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of a few frames, and small portraits."""
    monkeypatch.setattr(demo, "TURN", TURN)
    monkeypatch.setattr(demo, "PORTRAIT", 32)
    monkeypatch.setattr(demo, "SAMPLING", {"sampler": "dpm++", "steps": 2})


def test_video_and_gallery_are_marked_and_only_who_speaks_moves(release, tmp_path, capsys):
    video, gallery = tmp_path / "talk.mp4", tmp_path / "gallery.png"
    given = ["--model", str(release), "--out", str(video), "--gallery", str(gallery)]
    assert demo.main(given) == 0, capsys.readouterr().err
    assert "talk.mp4: 0.7 s of video" in capsys.readouterr().out
    frames = np.stack(list(read_video(video))).astype(float)
    assert frames.shape == (3 * TURN, *row_shape(3, demo.SIDE), 3)
    tiles = frames[:, : demo.SIDE].reshape(3, TURN, demo.SIDE, 3, demo.SIDE, 3)  # turn, time, y, place, x
    change = np.abs(np.diff(tiles, axis=1)).mean((1, 2, 4, 5))
    for turn in range(3):
        assert np.argmax(change[turn]) == turn and (np.delete(change[turn], turn) < 0.25 * change[turn, turn]).all()
    with Image.open(gallery) as picture:
        assert picture.n_frames == 3 * -(-TURN // demo.GALLERY_EVERY)  # pyright: ignore[reportAttributeAccessIssue]
        assert picture.size == row_shape(3, demo.GALLERY_SIDE)[::-1]
    for path in (video, gallery):
        report = examine(path)
        assert report.verdict == "marked" and report.statement["options"]["a person"] == "gaze left; gaze right"
    assert examine(video).watermark_found is not None


def test_characters_are_those_of_the_demo_each_with_another_look_and_control():
    assert {split_of(act.seed) for act in demo.ACTS} == {"demo"}
    assert len({act.style for act in demo.ACTS}) == 3 and {act.style for act in demo.ACTS} <= set(STYLES)
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
