"""Judges of stage 1 on faces whose numbers are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.arrays import Motion
from vasa_jax.geometry.rotation import gaze_in_head
from vasa_jax.metrics.judges import portraits
from vasa_jax.metrics.judges.portraits import FACE_JUDGES, FACTORS, PEOPLE, FaceEvidence, swapped_state
from vasa_jax.metrics.judges.protocol import ask, select
from vasa_jax.metrics.transfer import Face, people_of, random_states
from vasa_jax.pretrained.helper import Helper
from vasa_jax.synthetic.render import labels
from vasa_jax.synthetic.state import state_pose

SIZE = 16


def codes(params, crops):
    """Crops halved twice, without their mean, as unit vectors."""
    small = crops[:, ::4, ::4].reshape(len(crops), -1) * params
    small = small - small.mean(1, keepdims=True)
    return small / jnp.linalg.norm(small, axis=1, keepdims=True)


HELPER = Helper("stub", None, lambda key: 1.0, lambda params, pictures: (pictures,), codes, 16, 1.0)


def still():
    """A face that always draws its source."""
    return Face(
        encode=lambda picture: picture,
        motion=lambda picture: Motion(jnp.zeros((len(picture), 6)), jnp.zeros((len(picture), 1))),
        render=lambda portrait, motion: portrait,
    )


@pytest.fixture(scope="module")
def rows():
    """Every row of the still face, by name."""
    evidence = FaceEvidence(still(), SIZE, 4, (HELPER, 1.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portraits, "COMMON_SIZE", 2 * SIZE)
        return {row.name: row for row in ask(FACE_JUDGES, evidence)}


def test_a_still_face_transfers_nothing_and_keeps_its_identity(rows):
    """No gain; as far from its drivers as its source is; sharp; the likeness of a picture with itself is 1."""
    for judge in ("gain/", "at_128/gain/"):
        assert_allclose([row.value for name, row in rows.items() if name.startswith(judge)], 0.0, atol=1e-9)
    for region in ("all", "eyes", "mouth"):
        assert rows[f"psnr/{region}"].value == rows[f"psnr/{region}_of_source"].value
    assert rows["psnr/all"].value < rows["psnr/all_of_pose_alone"].value
    assert rows["swap/all"].value == rows["swap/all_of_source"].value
    for name in (f"exchange/{factor}/{region}" for factor in FACTORS for region in ("mouth", "eyes", "head")):
        assert rows[name].value == rows[f"{name}_of_source"].value
    assert 0.7 < rows["sharpness"].of_truth < 1.4
    assert rows["at_128/sharpness"].value < 0.6 and rows["at_128/psnr"].value < 25
    assert rows["identity/stranger"].value < rows["identity/own"].truth < 1
    assert rows["pose/yaw"].value > 3 and rows["pose/yaw"].count == 4


def test_a_face_that_draws_its_driver_is_a_stranger(rows, monkeypatch):
    """Crossed pictures show the driver, not the source; one's own are as sharp as the truth."""
    driven = still()._replace(
        motion=lambda picture: Motion(jnp.zeros((len(picture), 6)), picture.reshape(len(picture), -1)),
        render=lambda portrait, motion: motion.dynamics.reshape(portrait.shape),
    )
    monkeypatch.setattr(portraits, "COMMON_SIZE", SIZE)
    evidence = FaceEvidence(driven, SIZE, 4, (HELPER, 1.0))
    identity, gain = (
        {row.name: row for row in ask(select(FACE_JUDGES, [name]), evidence)} for name in ("identity", "gain")
    )
    assert_allclose(identity["identity/crossed"].value, identity["identity/stranger"].value, rtol=1e-5)
    assert_allclose(identity["identity/own"].value, identity["identity/own"].truth, rtol=1e-5)
    assert_allclose(gain["gain/jaw"].value, 1.0, atol=1e-5)
    same = {row.name: row for row in ask(select(FACE_JUDGES, ["at_128"]), evidence)}
    assert same["at_128/psnr"].value > 90 and same["at_128/face"].value > 90
    assert_allclose(same["at_128/sharpness"].value, 1.0, atol=1e-4)
    assert same["at_128/gain/jaw"] == gain["gain/jaw"]._replace(name="at_128/gain/jaw")
    monkeypatch.setattr(portraits, "COMMON_SIZE", 2 * SIZE)
    blurred = {row.name: row.value for row in ask(select(FACE_JUDGES, ["at_128"]), FaceEvidence(driven, SIZE, 4))}
    assert 0.5 < blurred["at_128/gain/jaw"] < 0.97


def test_a_swap_keeps_the_head_of_one_and_the_face_of_the_other():
    """Its labels: pose of the first; mouth, lids and gaze in the head of the second, where the sockets allow it."""
    chunk = tuple(PEOPLE[:16])
    people, place, acting = people_of(chunk), random_states(chunk, 0), random_states(chunk, 1)
    swapped = labels(people, swapped_state(people, place, acting))
    other = labels(people, acting)
    assert_allclose(swapped["pose"], state_pose(place), atol=1e-6)
    assert_allclose(swapped["mouth"], other["mouth"], atol=1e-6)
    assert_allclose(swapped["lids"], other["lids"], atol=1e-6)
    looked = np.degrees(
        np.asarray(gaze_in_head(swapped["gaze"], swapped["pose"]) - gaze_in_head(other["gaze"], other["pose"]))
    )
    assert np.abs(looked).max() < 0.1
