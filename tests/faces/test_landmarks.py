"""Faces found in pictures: synthetic people everywhere, real portraits where they are at hand."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vasa_jax.faces import landmarks
from vasa_jax.faces.box import WORLD, frame_face
from vasa_jax.faces.landmarks import Landmarker, NoDetectorError, find_model
from vasa_jax.faces.paste import Pasting
from vasa_jax.geometry.rotation import rotation_matrix
from vasa_jax.liveportrait.pictures import find_box
from vasa_jax.synthetic.clip import shoot
from vasa_jax.synthetic.identity import identity_from_seed
from vasa_jax.synthetic.state import neutral_state


@pytest.fixture(scope="module")
def landmarker(assets):
    with Landmarker() as opened:
        yield opened


@pytest.fixture(scope="module")
def person():
    frames, _ = next(shoot(identity_from_seed(4_000_000), neutral_state((1,)), 256))
    return frames[0]


def test_angles_invert_the_projects_rotation():
    """A transform made of (pitch, yaw, roll), in MediaPipe's axes and at any scale, gives them back."""
    true = (0.2, -0.4, 0.1)
    flip = np.diag([1.0, -1.0, -1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = 7.0 * flip @ np.asarray(rotation_matrix(*map(jnp.float32, true))).T @ flip
    np.testing.assert_allclose(landmarks.angles(matrix), true, atol=1e-6)


def test_a_person_of_the_world_is_framed_as_the_world_frames_people(landmarker, person):
    """Means over 100 people of the split "test": eyes at (0.499, 0.480), mouth 0.187 below, deviations below 0.01."""
    (face,) = landmarker.find(np.asarray(Image.fromarray(person).resize((384, 384), Image.Resampling.BICUBIC)))
    box = frame_face(face, WORLD)
    assert box.side == pytest.approx(384, rel=0.15)
    assert abs(box.x - 192) < 20 and abs(box.y - 192) < 20
    assert max(abs(angle) for angle in face.rotation) < 0.3 and 0 <= face.shapes["jawOpen"] < 0.3


def test_the_largest_comes_first_and_a_small_face_in_a_large_picture_is_found(landmarker, person):
    scene = np.full((1600, 2400, 3), 128, np.uint8)
    small = np.asarray(Image.fromarray(person).resize((200, 200)))
    scene[100:300, 2100:2300] = small
    (face,) = landmarker.find(scene)
    x, y = face.points.mean(0)
    assert 2100 < x < 2300 and 100 < y < 300
    scene[600:1200, 300:900] = np.asarray(Image.fromarray(person).resize((600, 600)))
    first, *_ = landmarker.find(scene)
    assert 300 < first.points.mean(0)[0] < 900 and first.size > 100


def test_no_face_is_no_error(landmarker):
    assert landmarker.find(np.full((300, 200, 3), 90, np.uint8)) == []


def test_every_real_portrait_has_a_face_and_comes_back_whole(landmarker, assets):
    """Equal, not only near: the detail that a crop lost is put back where a frame shows what the crop shows."""
    for path in sorted((assets / "portraits").iterdir()):
        photo = np.asarray(Image.open(path).convert("RGB").reduce(2))
        faces = landmarker.find(photo)
        assert faces, path
        for box, size in ((frame_face(faces[0], WORLD), 256), (find_box(faces[0].points), 512)):
            pasting = Pasting(photo, box, size)
            np.testing.assert_array_equal(pasting.paste(pasting.crop), photo, err_msg=str(path))


def test_the_model_is_looked_for_and_checked(tmp_path, monkeypatch):
    monkeypatch.delenv("VASA_JAX_ASSETS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    answers = iter([OSError("no network"), b"rubbish", b"model"])

    class Answer:
        def __init__(self, content):
            self.content = content

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self, most):
            return self.content

    def open_url(url, timeout):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer)

    monkeypatch.setattr(landmarks.urllib.request, "urlopen", open_url)
    monkeypatch.setattr(landmarks, "MODEL_SHA256", hashlib.sha256(b"model").hexdigest())
    with pytest.raises(NoDetectorError, match="cannot be fetched .no network.; fetch https"):
        find_model()
    with pytest.raises(NoDetectorError, match="another hash"):
        find_model()
    assert find_model().read_bytes() == b"model"
    kept = find_model()
    kept.write_bytes(b"other")
    with pytest.raises(NoDetectorError, match="is not the face model"):
        find_model()
    with pytest.raises(NoDetectorError, match="cannot start"):
        Landmarker(kept)
