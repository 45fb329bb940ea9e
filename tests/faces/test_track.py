"""The face of a video: which one is followed, where it is held, and the box that stands still."""

import itertools

import numpy as np
import pytest

from vasa_jax.errors import UserError
from vasa_jax.faces import track as module
from vasa_jax.faces.box import Box, crop
from vasa_jax.faces.landmarks import Face, NoDetectorError
from vasa_jax.faces.track import mean_box, track, track_video
from vasa_jax.liveportrait.pictures import DRIVER_SCALE, DRIVER_UP, find_box
from vasa_jax.media.video import VideoWriter, read_video


def face(x, y=50.0, size=40.0, jaw=0.0):
    points = np.zeros((478, 2))
    points[::2], points[1::2] = (x - size / 2, y - size / 2), (x + size / 2, y + size / 2)
    return Face(points, {"jawOpen": jaw}, np.eye(4))


def place_and_size(face):
    return Box(*face.points.mean(0), face.size)


@pytest.fixture
def detect(monkeypatch):
    """Lets the detector find in each frame what is listed."""

    def prepare(found):
        answers = iter(found)

        class Detector:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def find(self, picture):
                return next(answers)

        monkeypatch.setattr(module, "LandmarkerApart", Detector)

    return prepare


@pytest.fixture
def follow(detect):
    """Follows through frames in each of which the detector finds what is listed."""

    def run(found):
        detect(found)
        return track([np.zeros((8, 8, 3), np.uint8)] * len(found), place_and_size, "it.mp4")

    return run


def test_the_box_is_the_mean_over_the_frames(follow):
    got = follow([[face(50.0)], [face(60.0, 40.0)], [face(70.0, 60.0, 70.0)]])
    assert got.box == Box(60.0, 50.0, 50.0) and got.found.all()
    assert [place_and_size(each).x for each in got.faces] == [50, 60, 70]


def test_directions_are_averaged_round_the_circle():
    assert mean_box([Box(0, 0, 10, 170.0), Box(4, 2, 20, -170.0)]) == pytest.approx((2, 1, 15, 180))
    assert mean_box([Box(0, 0, 10), Box(0, 0, 10)]) == Box(0, 0, 10, 0.0)


def test_the_largest_is_taken_first_and_then_the_nearest(follow):
    """The other one comes closer and becomes the larger of both, and then is alone for a frame."""
    ours, other = [face(50.0), face(55.0), face(60.0)], [face(200.0, size=30.0), face(190.0, size=60.0)]
    got = follow([[ours[0], other[0]], [other[1], ours[1]], [other[1], ours[2]]])
    assert [each.points.mean(0)[0] for each in got.faces] == [50, 55, 60]


def test_a_face_is_held_where_it_is_not_found(follow):
    got = follow([[], [face(50.0, jaw=0.1)], [], [], [face(54.0, jaw=0.4)], [face(56.0, jaw=0.2)]])
    assert got.found.tolist() == [False, True, False, False, True, True]
    np.testing.assert_array_equal(got.scores("jawOpen"), [0.1, 0.1, 0.1, 0.1, 0.4, 0.2])
    assert got.box.x == pytest.approx((50 + 54 + 56) / 3)
    with pytest.raises(KeyError):
        got.scores("jawopen")


def test_videos_that_show_no_face_are_refused(follow):
    with pytest.raises(UserError, match="it.mp4 holds no frames"):
        follow([])
    with pytest.raises(UserError, match="no face was found in any of the 3 frames of it.mp4"):
        follow([[], [], []])
    with pytest.raises(UserError, match="found in 1 of the 3 frames of it.mp4 only"):
        follow([[], [face(50.0)], []])


def test_without_a_detector_it_is_said(monkeypatch):
    def fail():
        raise NoDetectorError("mediapipe is not installed")

    monkeypatch.setattr(module, "LandmarkerApart", fail)
    with pytest.raises(UserError, match="mediapipe is not installed"):
        track([np.zeros((8, 8, 3), np.uint8)], place_and_size, "it.mp4")


def test_a_video_file_is_cut_by_the_box_of_its_track(detect, tmp_path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 30, (60, 80)) as writer:
        for i in range(4):
            picture = np.full((60, 80, 3), 40 + 10 * i, np.uint8)
            picture[:30] //= 2
            writer.write(picture)
    answers = [[face(40.0, 30.0, 20.0)], [], [face(44.0, 30.0, 20.0)], [face(42.0, 30.0, 20.0)]]
    detect(answers)
    got = track_video(path, place_and_size, 16)
    assert got.rate == 30 and got.track.found.tolist() == [True, False, True, True]
    assert got.track.box == Box(42.0, 30.0, 20.0)
    for picture, cut in zip(read_video(path), got.crops, strict=True):
        np.testing.assert_array_equal(cut, crop(picture, got.track.box, 16))


def test_a_real_video(assets):
    path = assets / "video" / "talk_d18.mp4"
    got = track(
        itertools.islice(read_video(path), 12),
        lambda face: find_box(face.points, DRIVER_SCALE, DRIVER_UP, upright=False),
        str(path),
    )
    assert got.found.all() and len(got.faces) == 12 and got.box.degrees == 0
    assert np.ptp(got.scores("jawOpen")) > 0
    centres = np.array([got.box.seen(each.points, 1).mean(0) for each in got.faces])
    assert (abs(centres - (0.5, 0.6)) < 0.1).all()
