"""The way from a photo to a crop and back, against places that are known exactly."""

import numpy as np
import pytest

from vasa_jax.errors import UserError
from vasa_jax.faces.box import WORLD, Box, check_box, crop, frame_face, largest_square, parse_box, write_box
from vasa_jax.faces.landmarks import LEFT_EYE, MOUTH, RIGHT_EYE, Face

BOXES = [Box(60.0, 50.0, 40.0), Box(61.3, 48.7, 37.5, 20.0), Box(60.0, 50.0, 80.0, -90.0)]


def ramp(width=120, height=100):
    """A photo whose red is 2 x, whose green is 2 y (at pixel centres, less a half) and whose blue is 90."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 2 * y, np.full_like(x, 90)], -1).astype(np.uint8)


def face_at(eyes, mouth, apart=20.0):
    points = np.zeros((478, 2))
    points[list(LEFT_EYE)], points[list(RIGHT_EYE)] = np.array(eyes) - (apart / 2, 0), np.array(eyes) + (apart / 2, 0)
    points[list(MOUTH)] = mouth
    return Face(points, {}, np.eye(4))


@pytest.mark.parametrize("box", BOXES)
def test_places_and_seen_are_inverse(box):
    points = np.random.default_rng(0).uniform(0, 64, (20, 2))
    np.testing.assert_allclose(box.seen(box.places(points, 64), 64), points, atol=1e-9)
    np.testing.assert_allclose(box.places(np.array([[32.0, 32.0]]), 64), [[box.x, box.y]])


def test_a_quarter_turn_clockwise():
    """The upper left corner of the crop is the upper right one of the square in the photo."""
    np.testing.assert_allclose(Box(10, 20, 8, 90).places(np.array([[0.0, 0.0]]), 4), [[14.0, 16.0]], atol=1e-9)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("size", [32, 64, 150])
def test_a_crop_shows_the_places_it_says(box, size):
    photo = ramp()
    got = crop(photo, box, size).astype(float)
    grid = np.stack(np.meshgrid(*[np.arange(size) + 0.5] * 2), -1).reshape(-1, 2)
    x, y = box.places(grid, size).T
    inside = (x > 3) & (x < 117) & (y > 3) & (y < 97)
    wanted = np.stack([2 * (x - 0.5), 2 * (y - 0.5), np.full_like(x, 90)], -1)
    assert np.abs(got.reshape(-1, 3) - wanted)[inside].max() <= 1.0  # rounded, once or twice


def test_the_edge_is_repeated_outside():
    got = crop(ramp(), Box(0.0, 50.0, 40.0), 40)
    assert (got[:, :15, 0] == got[:, :1, 0]).all() and got[0, 0, 0] <= 1
    assert Box(0.0, 50.0, 40.0).outside(120, 100) == pytest.approx(0.5, abs=0.01)
    assert Box(60.0, 50.0, 40.0).outside(120, 100) == 0


def test_fine_detail_is_averaged_and_not_aliased():
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[:, ::2] = 200
    for degrees in (0.0, 30.0):
        got = crop(photo, Box(100, 100, 120, degrees), 30)[4:-4, 4:-4]
        assert abs(got.astype(float).mean() - 100) < 2 and got.std() < 8


@pytest.mark.parametrize("upright", [False, True])
def test_a_face_lies_as_the_framing_says(upright):
    framing = WORLD._replace(upright=upright)
    face = face_at((50.0, 40.0), (44.0, 60.0))
    box = frame_face(face, framing)
    seen = box.seen(np.array([(50.0, 40.0), (44.0, 60.0)]), 1)
    np.testing.assert_allclose(seen[0], framing.eyes, atol=1e-9)
    assert np.hypot(*(seen[1] - seen[0])) == pytest.approx(framing.reach)
    assert (abs(seen[1, 0] - seen[0, 0]) < 1e-9) == upright and (box.degrees != 0) == upright


def test_boxes_as_users_write_them():
    assert parse_box("10,20,40") == Box(30, 40, 40) and parse_box(" 10, 20.5, 40, -5 ") == Box(30, 40.5, 40, -5)
    for text in ("", "1,2", "1,2,3,4,5", "a,b,c", "1,2,nan", "1,2,inf", "1,2,3"):
        with pytest.raises(UserError, match="x,y,size|too small"):
            parse_box(text)
    assert write_box(parse_box("10,20,40")) == "10,20,40" and write_box(parse_box("1,2,30,-5.25")) == "1,2,30,-5.2"


def test_a_box_may_leave_the_photo_but_not_miss_it():
    for box in (Box(50, 40, 20), Box(0, 0, 60), Box(-10, 40, 40), Box(50, 40, 200)):
        assert check_box(box, 100, 80) == box
    with pytest.raises(UserError, match="the box 120,10,40 lies outside of the picture, which is 100x80 pixels"):
        check_box(parse_box("120,10,40"), 100, 80)
    for box in (Box(-19, 40, 40), Box(50, 40, 1e9)):
        with pytest.raises(UserError, match="lies for 9[0-9]%|lies outside"):
            check_box(box, 100, 80)


def test_the_largest_square():
    assert largest_square(720, 1280) == Box(360, 360, 720) and largest_square(1280, 720) == Box(640, 360, 720)
    assert largest_square(50, 50) == Box(25, 25, 50)
