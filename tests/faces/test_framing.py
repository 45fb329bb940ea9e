"""What a user is told about the part of a photo that is shown."""

import numpy as np
import pytest
from PIL import Image

from vasa_jax.errors import UserError
from vasa_jax.faces import framing
from vasa_jax.faces.apart import LandmarkerApart, find_apart
from vasa_jax.faces.box import Box
from vasa_jax.faces.framing import look, parse_face, start_looking
from vasa_jax.faces.landmarks import Face, Landmarker, NoDetectorError

PHOTO = np.zeros((300, 200, 3), np.uint8)


def face(size=120.0, yaw=0.0, corner=(40, 40)):
    points = np.zeros((478, 2))
    points[0], points[1:] = corner, np.add(corner, size)
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
            "it shows 2 faces; the largest is used, the others are --face 2 around (55, 55)",
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
    assert view.remarks == ("no face was found in it; its upper square is used (--box 0,0,200)",)
    wide = look(PHOTO.transpose(1, 0, 2), frame)
    assert wide.box == Box(150.0, 100.0, 200.0) and "central square is used (--box 50,0,200)" in wide.remarks[0]


def test_without_a_detector_too_and_it_is_said_why(seen):
    seen.append(NoDetectorError("mediapipe is not installed"))
    view = start_looking(PHOTO, frame, "it").result()
    assert view.face is None
    assert view.remarks[0].startswith("faces are not looked for: mediapipe is not installed; its upper square")


def test_a_model_that_needs_a_face_has_no_way_out_but_a_box(seen):
    with pytest.raises(UserError, match="no face was found in it; frame it by hand with --box x,y,size"):
        look(PHOTO, frame, "it", needed=True)
    seen.append(NoDetectorError("mediapipe is not installed"))
    with pytest.raises(UserError, match="mediapipe is not installed; frame it by hand with --box x,y,size"):
        start_looking(PHOTO, frame, "it", needed=True).result()
    assert look(PHOTO, frame, "it", box=Box(100, 100, 60), needed=True) == (Box(100, 100, 60), None, ())


def place_and_size(face):
    return Box(*face.points.mean(0), face.size)


def test_one_of_several_faces_is_chosen(seen):
    seen.extend([face(), face(100.0, corner=(90, 190)), face(97.0, corner=(0, 200))])
    for choose, chosen in ((1, 0), (2, 1), (3, 2), ((100.0, 100.0), 0), ((120.0, 250.0), 1), ((3.0, 190.0), 2)):
        view = look(PHOTO, place_and_size, "it", choose)
        assert view.face is seen[chosen] and view.box == place_and_size(seen[chosen]), choose
        assert not any("faces" in remark for remark in view.remarks)
    # the second and the third overlap from x = 90 to 97: the nearer centre decides
    assert look(PHOTO, place_and_size, "it", (91.0, 240.0)).face is seen[2]


def test_a_face_that_is_not_there_is_refused(seen):
    with pytest.raises(UserError, match="no face was found in it; frame it by hand"):
        look(PHOTO, frame, "it", 1)
    seen.append(face())
    with pytest.raises(UserError, match=r"--face 2 is not there: it shows one face: 1 around \(100, 100\)"):
        look(PHOTO, frame, "it", 2)
    seen.append(face(30.0))
    with pytest.raises(UserError, match=r"shows 2 faces: 1 around \(100, 100\), 2 around \(55, 55\)"):
        look(PHOTO, frame, "it", 3)
    with pytest.raises(UserError, match="--face 201,5 lies outside of it, which is 200x300 pixels"):
        look(PHOTO, frame, "it", (201.0, 5.0))


def test_choices_as_users_write_them():
    assert parse_face("2") == 2 and parse_face(" 10, 20.5") == (10.0, 20.5)
    for text in ("", "0", "-1", "1.5", "a", "1,2,3", "nan,1", "1,inf", "a,b"):
        with pytest.raises(UserError, match="--face .* names no face: give 1 for the largest"):
            parse_face(text)


def test_a_given_box_is_shown_with_the_face_in_it(seen):
    seen.extend([face(), face(30.0, corner=(150, 250))])
    assert look(PHOTO, frame, "it", box=Box(165, 265, 60)).face is None
    view = look(PHOTO, frame, "it", box=Box(165, 265, 60), needed=True)
    assert view.box == Box(165, 265, 60) and view.face is seen[1]
    assert view.remarks == ("the face in it is only 30 pixels large; a closer picture gives a better video",)
    view = look(PHOTO, frame, "it", box=Box(20, 20, 80), needed=True)
    assert view.face is None and view.remarks == (
        "44% of what is shown lies outside of it, whose edge is repeated there",
    )
    with pytest.raises(UserError, match="lies outside of the picture, which is 200x300 pixels"):
        look(PHOTO, frame, "it", box=Box(265, 265, 60))
    with pytest.raises(UserError, match="--face and --box both"):
        look(PHOTO, frame, "it", 1, Box(165, 265, 60))


def test_a_photo_that_is_too_small_is_refused(seen):
    with pytest.raises(UserError, match="it is 15x300 pixels, too small to show a face; give at least 16x16"):
        look(PHOTO[:, :15], frame, "it")


def test_the_detector_in_a_process_of_its_own_finds_the_same(assets, capfd):
    """Picture after picture, also where there is none to find."""
    photo = np.asarray(Image.open(assets / "portraits" / "painting_mona_lisa.jpg").convert("RGB"))
    with LandmarkerApart() as apart:
        found = [apart.find(picture) for picture in (photo, PHOTO, photo[:, ::-1])]
    assert capfd.readouterr().err == "" and found[1] == []
    with Landmarker() as landmarker:
        for (face,), picture in ((found[0], photo), (found[2], photo[:, ::-1])):
            (same,) = landmarker.find(picture)
            np.testing.assert_allclose(face.points, same.points, atol=1e-6)
            assert face.shapes == same.shapes and face.rotation == same.rotation


def test_a_detector_that_cannot_start_says_why(monkeypatch, tmp_path):
    monkeypatch.delenv("VASA_JAX_ASSETS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    model = tmp_path / ".cache" / "vasa-jax" / "models" / "face_landmarker.task"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"other")
    with pytest.raises(NoDetectorError, match="is not the face model that this version knows"):
        find_apart(PHOTO)
