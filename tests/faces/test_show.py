"""The crop with its landmarks: marks lie where the points are, and nowhere else."""

import numpy as np

from vasa_jax.faces.box import Box, crop
from vasa_jax.faces.landmarks import LEFT_EYE, MOUTH, RIGHT_EYE, Face
from vasa_jax.faces.show import AXIS, LANDMARKS, draw_crop

PHOTO = np.random.default_rng(0).integers(30, 200, (100, 120, 3), np.uint8)
BOX = Box(60.0, 50.0, 80.0, 10.0)


def test_marks_lie_on_the_landmarks():
    points = np.full((478, 2), 30.0)
    points[list(LEFT_EYE)], points[list(RIGHT_EYE)], points[list(MOUTH)] = (45, 40), (75, 40), (60, 70)
    drawn = draw_crop(PHOTO, BOX, Face(points, {}, np.eye(4)), 160)
    changed = (drawn != crop(PHOTO, BOX, 160)).any(-1)
    for place, colour in (((30, 30), LANDMARKS), ((45, 40), LANDMARKS), ((60, 70), LANDMARKS), ((60, 55), AXIS)):
        x, y = np.floor(BOX.seen(np.array([place]), 160)[0]).astype(int)
        assert (drawn[y - 1 : y + 2, x - 1 : x + 2] == colour).all(-1).any(), place
    assert 100 < changed.sum() < 400
    assert {tuple(colour) for colour in drawn[changed]} == {LANDMARKS, AXIS}


def test_without_a_face_it_is_the_crop():
    np.testing.assert_array_equal(draw_crop(PHOTO, BOX, None, 64), crop(PHOTO, BOX, 64))
