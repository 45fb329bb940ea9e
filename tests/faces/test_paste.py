"""Paste-back: the photo comes back where the frame shows it, and nothing outside of the box changes."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from vasa_jax.faces import paste as module
from vasa_jax.faces.box import Box
from vasa_jax.faces.paste import Pasting
from vasa_jax.media.image import over_grey

BOXES = [
    Box(90.0, 70.0, 80.0),
    Box(91.3, 68.7, 77.7, 25.0),
    Box(20.0, 10.0, 100.0, -10.0),
    Box(90.0, 70.0, 300.0),
    Box(90.0, 70.0, 60.0, 5.0),
]


def photo(channels=3, blur=0.0):
    noise = np.random.default_rng(0).uniform(0, 255, (140, 180, channels))
    if blur:
        noise = gaussian_filter(noise, (blur, blur, 0))
        noise = (noise - noise.min()) / np.ptp(noise) * 200 + 20
    return noise.astype(np.uint8)


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("box", BOXES)
def test_a_frame_that_equals_the_crop_gives_the_photo(box, size):
    whole = photo()
    pasting = Pasting(whole, box, size)
    np.testing.assert_array_equal(pasting.paste(pasting.crop), whole)


@pytest.mark.parametrize("box", BOXES)
def test_a_frame_lands_where_it_was_cut(box):
    """A smooth photo and a frame that differs everywhere, so that no detail of the photo helps."""
    whole = photo(blur=12.0)
    pasting = Pasting(whole, box, 128)
    pasted = pasting.paste(pasting.crop // 2 + 120).astype(float)
    middle = np.linspace(0.2, 0.8, 30) * 128
    places = box.places(np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2), 128)
    x, y = places.astype(int).T
    keep = (x > 2) & (x < 177) & (y > 2) & (y < 137)
    wanted = whole[y[keep], x[keep]] / 2.0 + 120
    assert np.abs(pasted[y[keep], x[keep]] - wanted).mean() < 1.0


@pytest.mark.parametrize("box", BOXES)
def test_outside_of_the_box_nothing_is_touched(box):
    whole = photo(channels=4)
    pasting = Pasting(whole, box, 64)
    pasted = pasting.paste(255 - pasting.crop)
    y, x = np.mgrid[:140, :180]
    seen = box.seen(np.stack([x, y], -1).reshape(-1, 2) + 0.5, 1).reshape(140, 180, 2)
    outside = ((seen < 0) | (seen > 1)).any(-1)
    np.testing.assert_array_equal(pasted[outside], whole[outside])
    np.testing.assert_array_equal(pasted[..., 3], whole[..., 3])
    assert (pasted != whole).any()


def test_transparency_stays_and_a_change_is_as_large_as_over_grey():
    """What is seen over grey is what the photo over grey, pasted by itself, becomes, where colours allow."""
    whole = photo(channels=4, blur=9.0)
    low, high = np.quantile(whole[..., 3], (0.1, 0.9))
    whole[..., 3] = np.clip((whole[..., 3] - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    box = Box(90.0, 70.0, 80.0, 15.0)
    pasting, opaque = Pasting(whole, box, 64), Pasting(over_grey(whole), box, 64)
    np.testing.assert_array_equal(pasting.paste(pasting.crop), whole)
    frame = (pasting.crop * 0.9 + 12).astype(np.uint8)
    pasted = pasting.paste(frame)
    np.testing.assert_array_equal(pasted[..., 3], whole[..., 3])
    inside = (pasted[..., :3] > 0).all(-1) & (pasted[..., :3] < 255).all(-1) & (whole[..., 3] > 0)
    apart = np.abs(over_grey(pasted).astype(int) - opaque.paste(frame))[inside]
    assert inside.mean() > 0.5 and apart.max() <= 2 and apart.mean() < 0.1
    assert (pasted[whole[..., 3] == 0] == whole[whole[..., 3] == 0]).all()


def test_frames_may_be_kept():
    pasting = Pasting(photo(), Box(90, 70, 100), 64)
    first = pasting.paste(pasting.crop // 2)
    kept = first.copy()
    pasting.paste(255 - pasting.crop)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    assert pasting.paste(pasting.crop // 2).any()


def test_pictures_are_doubled_as_pillow_does_it():
    """But for the edge, where Pillow's filter ends and ours repeats the edge."""
    levels = np.random.default_rng(0).integers(90, 160, (30, 30, 4), np.uint8)
    ours = np.asarray(module._doubled(levels.view(np.uint32)[..., 0])).view(np.uint8).reshape(60, 60, 4)
    for i in range(4):
        theirs = np.asarray(Image.fromarray(levels[..., i]).resize((60, 60), Image.Resampling.BICUBIC))
        assert np.abs(ours[4:-4, 4:-4, i].astype(int) - theirs[4:-4, 4:-4]).max() <= 1


def test_the_border_is_soft_and_the_middle_whole():
    whole = np.full((140, 180, 3), 100, np.uint8)
    pasting = Pasting(whole, Box(90, 70, 100), 64)
    row = pasting.paste(np.full((64, 64, 3), 200, np.uint8))[70, :, 0].astype(int)
    assert row[90] == 200 and row[39] == 100
    assert np.abs(np.diff(row)).max() < 25 and (np.diff(row[40:90]) >= 0).all()


def test_colours_of_the_model_are_matched_to_the_photos():
    whole = photo(blur=6.0)
    pasting = Pasting(whole, Box(90, 70, 100), 64)
    tinted = np.clip(pasting.crop * 0.8 + np.array([20, 5, 12]), 0, 255).astype(np.uint8)
    before = np.abs(pasting.paste(tinted).astype(int) - whole).mean()
    pasting.match(tinted)
    assert np.abs(pasting.paste(tinted).astype(int) - whole).mean() < 0.1 * before


def test_a_box_that_misses_the_photo_changes_nothing():
    whole = photo()
    pasting = Pasting(whole, Box(-100.0, 70.0, 80.0), 32)
    np.testing.assert_array_equal(pasting.paste(np.zeros((32, 32, 3), np.uint8)), whole)
