"""The notice that people see: its words and its sign, at any size, over any picture."""

import numpy as np
import pytest

from vasa_jax.provenance.badge import COVER, LEAST, MARGIN, badged, badging

SIZES = [(64, 64), (96, 80), (128, 128), (256, 256), (512, 512), (360, 640), (1280, 720)]


def changed(height: int, width: int, number: int, level: int = 128) -> np.ndarray:
    """Where a grey frame differs from its own."""
    frame = np.full((height, width, 3), level, np.uint8)
    return (badged(frame, number) != frame).any(-1)


@pytest.mark.parametrize("height, width", SIZES)
def test_words_for_two_seconds_then_a_sign(height, width):
    words, sign = (changed(height, width, number) for number in (0, 50))
    np.testing.assert_array_equal(changed(height, width, 49), words)
    np.testing.assert_array_equal(changed(height, width, 5000), sign)
    assert 0 < sign.sum() < words.sum() < 0.4 * height * width
    margin = max(1, round(MARGIN * min(height, width)))
    for place in (words, sign):
        rows, columns = np.flatnonzero(place.any(1)), np.flatnonzero(place.any(0))
        assert (rows[0], columns[0]) == (margin, margin)
        assert rows[-1] < height / 2 and columns[-1] < width - margin


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("height, width", SIZES)
def test_letters_can_be_read_over_any_picture(height, width, level):
    """White letters as high as China's rule wants, 5 % of the shorter side, on what is dark enough for a contrast of
    4.5 (WCAG 2.1, 1.4.3)."""
    frame = badged(np.full((height, width, 3), level, np.uint8), 0).astype(float)
    place = frame[changed(height, width, 0, 100)]
    dark, light = place.min(), place.max()
    assert light > 200

    def luminance(value: float) -> float:
        return ((value / 255 + 0.055) / 1.055) ** 2.4

    assert 1.05 / (luminance(np.median(place)) + 0.05) > 4.5
    assert dark <= 16 + (1 - COVER) * level + 1
    letters = (frame.min(-1) > 150) & changed(height, width, 0, 100)
    lines = np.flatnonzero(letters.any(1)) if level != 255 else np.arange(height)
    assert len(lines) >= max(0.05 * min(height, width), 0.6 * LEAST)


def test_the_same_frames_get_the_same_notice_and_are_not_touched():
    frame = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    before = frame.copy()
    np.testing.assert_array_equal(badged(frame, 3), badged(frame, 3))
    np.testing.assert_array_equal(frame, before)
    counted = list(badging([frame] * 4, fps=1))
    np.testing.assert_array_equal(counted[1], badged(frame, 0))
    np.testing.assert_array_equal(counted[2], badged(frame, 50))
    assert list(badging([])) == []


def test_on_transparent_frames_the_notice_is_there_and_over_opaque_ones_it_is_the_same():
    """By the rule for what lies over what (Porter and Duff 1984): over nothing the plate keeps its own opacity."""
    clear = np.zeros((128, 128, 4), np.uint8)
    drawn = badged(clear, 0)
    covered = drawn[..., 3] > 0
    np.testing.assert_array_equal(covered, changed(128, 128, 0))
    beside = drawn[12, 6]  # the first letter
    assert abs(int(beside[3]) - 255 * COVER) <= 1 and beside[:3].tolist() == [16, 16, 24]
    opaque = np.random.default_rng(0).integers(0, 256, (128, 128, 4)).astype(np.uint8)
    opaque[..., 3] = 255
    both = badged(opaque, 0)
    np.testing.assert_array_equal(both[..., :3], badged(opaque[..., :3], 0))
    assert (both[..., 3] == 255).all()


@pytest.mark.parametrize("height, width", [(16, 16), (2, 2), (16, 400), (400, 16)])
def test_frames_that_are_too_small_show_what_they_can(height, width):
    for number in (0, 50):
        assert badged(np.full((height, width, 3), 128, np.uint8), number).shape == (height, width, 3)
