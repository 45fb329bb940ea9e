"""What a user is told about the part of a photo that is shown."""

import numpy as np
import pytest
from PIL import Image

from vasa_jax.faces import framing
from vasa_jax.faces.box import Box
from vasa_jax.faces.framing import look, start_looking
from vasa_jax.faces.landmarks import Face, Landmarker, NoDetectorError

PHOTO = np.zeros((300, 200, 3), np.uint8)


def face(size=120.0, yaw=0.0):
    points = np.zeros((478, 2))
    points[0], points[1:] = (40, 40), (40 + size, 40 + size)
    turn = np.eye(4)
    turn[0, 0] = turn[2, 2] = np.cos(yaw)
    turn[0, 2], turn[2, 0] = np.sin(yaw), -np.sin(yaw)
    return Face(points, {}, turn)


@pytest.fixture
def seen(monkeypatch):
    """Lets the detector find what is put into this list, or raise what is in it."""
    faces = []

    def find(photo):
        if faces and isinstance(faces[0], Exception):
            raise faces[0]
        return faces

    monkeypatch.setattr(framing, "find_apart", find)
    return faces


def frame(face):
    return Box(100.0, 150.0, 150.0)


def test_a_face_decides(seen):
    seen.append(face())
    view = look(PHOTO, frame)
    assert view == (Box(100.0, 150.0, 150.0), seen[0], ())


@pytest.mark.parametrize(
    "found, box, remark",
    [
        (
            [face(), face(30.0)],
            Box(100, 150, 150),
            "shows 2 faces; the largest is used, the others would be --crop 25,75",
        ),
        ([face(50.0)], Box(100, 150, 150), "is only 50 pixels large"),
        ([face(yaw=1.3)], Box(100, 150, 150), "turned by -74 degrees|turned by 74 degrees"),
        ([face()], Box(0, 150, 150), "50% of what is shown lies outside of it, whose edge is repeated"),
    ],
)
def test_what_is_odd_is_said_in_a_line(seen, found, box, remark):
    seen.extend(found)
    view = look(PHOTO, lambda face: box, "it")
    assert len(view.remarks) == 1 and any(part in view.remarks[0] for part in remark.split("|"))


def test_without_a_face_the_upper_square_of_a_tall_picture_is_used(seen):
    view = look(PHOTO, frame, "it")
    assert view.box == Box(100.0, 100.0, 200.0) and view.face is None
    assert view.remarks == ("no face was found in it; its upper square is used (--crop 0,0,200)",)
    wide = look(PHOTO.transpose(1, 0, 2), frame)
    assert wide.box == Box(150.0, 100.0, 200.0) and "central square is used (--crop 50,0,200)" in wide.remarks[0]


def test_without_a_detector_too_and_it_is_said_why(seen):
    seen.append(NoDetectorError("mediapipe is not installed"))
    view = start_looking(PHOTO, framing.Framing((0.5, 0.5), 0.2, False), "it").result()
    assert view.face is None
    assert view.remarks[0].startswith("faces are not looked for: mediapipe is not installed; its upper square")


def test_the_detector_in_a_process_of_its_own_finds_the_same(assets, capfd):
    photo = np.asarray(Image.open(assets / "portraits" / "painting_mona_lisa.jpg").convert("RGB"))
    (face,) = framing.find_apart(photo)
    assert capfd.readouterr().err == ""
    with Landmarker() as landmarker:
        (same,) = landmarker.find(photo)
    np.testing.assert_allclose(face.points, same.points, atol=1e-6)
    assert face.shapes == same.shapes and face.rotation == same.rotation


def test_a_detector_that_cannot_start_says_why(monkeypatch, tmp_path):
    monkeypatch.delenv("VASA_JAX_ASSETS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    model = tmp_path / ".cache" / "vasa-jax" / "models" / "face_landmarker.task"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"other")
    with pytest.raises(NoDetectorError, match="is not the face model that this version knows"):
        framing.find_apart(PHOTO)
