"""The crops of the originals as boxes: the same places, in the coordinates of `faces.box`."""

import numpy as np
import pytest

from vasa_jax.faces.landmarks import LEFT_EYE, MOUTH, RIGHT_EYE
from vasa_jax.liveportrait.pictures import CROP, DRIVER_SCALE, DRIVER_UP, EXTENT, SCALE, UP, find_box, find_crop


def points(turned: float):
    """A cloud of landmarks whose eyes and mouth are turned by so many degrees about (300, 250)."""
    cloud = np.random.default_rng(0).uniform(-60, 60, (478, 2))
    cloud[list(LEFT_EYE)], cloud[list(RIGHT_EYE)], cloud[list(MOUTH)] = (-30, -20), (30, -20), (0, 40)
    angle = np.radians(turned)
    return cloud @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + (300, 250)


@pytest.mark.parametrize("turned", [0.0, 25.0, -80.0])
@pytest.mark.parametrize("scale, up, upright", [(SCALE, UP, True), (DRIVER_SCALE, DRIVER_UP, False)])
def test_a_box_holds_what_the_crop_shows(turned, scale, up, upright):
    box = find_box(points(turned), scale, up, upright)
    transform = find_crop(points(turned) - 0.5, CROP, scale, up, upright)
    corners = np.array([(0, 0), (CROP, 0), (CROP, CROP), (0, CROP)]) - 0.5  # of the crop, whose pixels lie at integers
    wanted = (np.pad(corners, ((0, 0), (0, 1)), constant_values=1) @ transform.to_photo.T)[:, :2] + 0.5
    np.testing.assert_allclose(box.places(corners + 0.5, CROP), wanted, atol=1e-3)
    assert abs(box.degrees - (turned if upright else 0)) < 0.01


def test_a_driver_box_follows_the_originals_rule():
    """Of an upright face: the side is 2.2 times the longer extent; its centre, a tenth of the side higher, comes to lie
    at the middle of the crop's pixel 256, half a pixel beyond the middle of the crop."""
    cloud = points(0.0)
    low, high = cloud[list(EXTENT)].min(0), cloud[list(EXTENT)].max(0)
    box = find_box(cloud, DRIVER_SCALE, DRIVER_UP, upright=False)
    assert box.side == pytest.approx(2.2 * (high - low).max(), abs=1e-3) and box.degrees == 0
    centre = (low + high) / 2 - (0, 0.1 * box.side)
    np.testing.assert_allclose(box.places(np.array([[256.5, 256.5]]), CROP)[0], centre, atol=1e-3)
