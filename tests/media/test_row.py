"""Rows of pictures with captions, and animations of them."""

import numpy as np
import pytest
from PIL import Image

from vasa_jax.errors import UserError
from vasa_jax.media.animation import write_animation
from vasa_jax.media.row import GROUND, Caption, band, draw_row, icon_side, row_shape

RANDOM = np.random.default_rng(0)


def test_pictures_of_any_size_stand_in_a_row_with_captions_below():
    large, small = (RANDOM.integers(0, 256, (side, side, 3), np.uint8) for side in (48, 12))
    icon = np.full((4, 4, 3), 200, np.uint8)
    row = draw_row([large, small], [Caption(("one",)), Caption(("two", "more"), icon)], 48)
    assert row.shape == (*row_shape(2, 48), 3) == (60, 96, 3)
    np.testing.assert_array_equal(row[:48, :48], large)
    below = row[48:]
    assert (below[0, :48] == GROUND).all() and (below[:, :48] != GROUND).any()  # a caption with a margin
    assert (below[1 : 1 + icon_side(48), 49 : 49 + icon_side(48)] == 200).all()
    dark = draw_row([large, small], [Caption(("one",), lit=False), Caption(("two", "more"), icon)], 48)
    assert dark[48:, :48].max() < below[:, :48].max()
    np.testing.assert_array_equal(dark[:, 48:], row[:, 48:])
    assert band(50) % 2 == 0


def test_an_animation_keeps_time_and_what_stands_still(tmp_path):
    still = np.full((20, 30, 3), 90, np.uint8)
    frames = [still.copy() for _ in range(4)]
    for number, frame in enumerate(frames):
        frame[number, :5] = 255
    sealed = []
    size = write_animation(tmp_path / "a.png", frames, 12.5, seal=lambda hidden, final: sealed.append(final.name))
    assert sealed == ["a.png"] and size == (tmp_path / "a.png").stat().st_size
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.n_frames == 4 and picture.info["Title"].startswith("AI-generated")  # pyright: ignore
        for number, frame in enumerate(frames):
            picture.seek(number)
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), frame)
            assert picture.info["duration"] == 80


def test_an_animation_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.png"):
        write_animation(tmp_path / "a.gif", [], 10.0)
    with pytest.raises(UserError, match="there was no frame"):
        write_animation(tmp_path / "a.png", [], 10.0)
    assert not list(tmp_path.iterdir())
