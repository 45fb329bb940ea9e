"""Transfer gain of faces whose answer is known, on real frames of the world; and PSNR in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.arrays import Motion
from vasa_jax.metrics.transfer import (
    CONTROLS,
    Face,
    detail,
    face_disc,
    finest_octave,
    held_out_psnr,
    masked_psnr,
    picture_psnr,
    transfer_gain,
)

SIZE = 32
PEOPLE = (1_000_000, 1_000_001)


def flat(picture):
    """Pictures as rows of numbers."""
    return picture.reshape(len(picture), -1)


def face(pose, dynamics, render):
    """A face that packs functions of the picture into its motion; a portrait is the source itself."""
    return Face(lambda picture: picture, lambda picture: Motion(pose(picture), dynamics(picture)), render)


def nothing(picture):
    """A motion that carries nothing."""
    return jnp.zeros((len(picture), 1))


PERFECT = face(nothing, flat, lambda portrait, motion: motion.dynamics.reshape(portrait.shape))


def test_a_perfect_face_gains_one_everywhere():
    """A code that carries the whole picture; every control changes the world's picture."""
    gains = transfer_gain(PERFECT, PEOPLE, SIZE)
    assert list(gains) == list(CONTROLS)
    assert_allclose(list(gains.values()), 1.0, atol=1e-6)


def test_a_face_that_ignores_its_driver_gains_nothing():
    """The source's picture, whatever the driver does."""
    still = face(nothing, nothing, lambda portrait, motion: portrait)
    assert_allclose(list(transfer_gain(still, PEOPLE, SIZE).values()), 0.0, atol=1e-9)


def test_half_the_change_is_half_the_gain():
    """A picture halfway between source and driver."""
    half = face(nothing, flat, lambda portrait, motion: 0.5 * (portrait + motion.dynamics.reshape(portrait.shape)))
    assert_allclose(list(transfer_gain(half, PEOPLE, SIZE, ("jaw", "yaw")).values()), 0.5, atol=1e-6)


def test_an_expression_that_travels_in_the_pose_does_not_count():
    """Unless it is asked for; the pose controls always count."""
    posed = face(flat, nothing, lambda portrait, motion: motion.pose.reshape(portrait.shape))
    assert_allclose(list(transfer_gain(posed, PEOPLE, SIZE, ("lids", "pitch")).values()), [0.0, 1.0], atol=1e-6)
    own = transfer_gain(posed, PEOPLE, SIZE, ("lids", "pitch"), own_pose=True)
    assert_allclose(list(own.values()), 1.0, atol=1e-6)


def test_bad_requests_are_named():
    """An unknown control, nobody to look at."""
    with pytest.raises(ValueError, match="'nose' is unknown"):
        transfer_gain(PERFECT, PEOPLE, SIZE, ("nose",))
    with pytest.raises(ValueError, match="seeds is empty"):
        transfer_gain(PERFECT, (), SIZE)


def test_psnr_counts_each_region_on_its_own():
    """An error of 0.1 inside the mouth's ellipse is 20 dB there, 100 dB (no error) at the eyes."""
    regions = np.array([[[-0.4, -0.4, 0.2, 0.1], [0.4, -0.4, 0.2, 0.1], [0.0, 0.5, 0.4, 0.2]]])
    side = np.linspace(-1.0, 1.0, 64)
    mouth = (side[None] / 0.4) ** 2 + ((side[:, None] - 0.5) / 0.2) ** 2 <= 1
    target = np.full((1, 64, 64, 3), 0.5)
    psnr = picture_psnr(target + 0.1 * mouth[None, :, :, None], target, regions)
    assert_allclose(psnr["psnr/mouth"], 20.0, atol=1e-4)
    assert_allclose(psnr["psnr/eyes"], 100.0)
    assert_allclose(psnr["psnr/all"], 20.0 - 10 * np.log10(mouth.mean()), atol=1e-4)


def test_reconstruction_reports_pictures_and_pose():
    """The perfect face has no error in the picture; one that answers pose 0 errs by the mean size of each angle."""
    perfect = Face(PERFECT.encode, lambda picture: Motion(jnp.zeros((len(picture), 6)), flat(picture)), PERFECT.render)
    rows = held_out_psnr(perfect, PEOPLE, SIZE)
    assert rows["psnr/all"] > 90 and rows["psnr/eyes"] > 90 and rows["psnr/mouth"] > 90
    assert 0.0 < rows["pose/yaw_deg"] < 45.0
    assert set(rows) == {f"psnr/{name}" for name in ("all", "eyes", "mouth")} | {
        f"pose/{name}" for name in ("pitch_deg", "yaw_deg", "roll_deg", "tx", "ty", "log_distance")
    } | {"detail/made", "detail/true"}


def test_detail_is_what_a_blur_takes():
    """A checkerboard of 0 and 1 departs from its 3x3 means by 4/9 or 5/9; a ramp by nothing."""
    y, x = np.mgrid[:9, :9]
    board, ramp = ((y + x) % 2)[None, ..., None] * np.ones(3), (x / 9)[None, ..., None] * np.ones(3)
    assert_allclose(detail(np.concatenate([board, ramp]).astype(np.float32)), [(4 / 9) ** 2, 0.0], atol=1e-6)


def test_the_finest_octave_is_what_half_the_side_cannot_hold():
    """Nothing of a plane, all of a chequered picture, and within a mask."""
    line = np.arange(16.0)
    plane = np.broadcast_to((line[:, None] + line)[None, ..., None] / 30, (1, 16, 16, 3))
    chequered = np.broadcast_to(((line[:, None] + line) % 2)[None, ..., None], (1, 16, 16, 3))
    assert_allclose(finest_octave(plane)[:, 4:-4, 4:-4], 0.0, atol=1e-12)
    assert_allclose(finest_octave(chequered)[:, 4:-4, 4:-4], 0.25, atol=1e-12)


def test_psnr_within_a_mask_sees_nothing_beyond_it():
    """An error of 0.1 inside is 20 dB, whatever is outside."""
    disc = face_disc(np.zeros((1, 6), np.float32), 33)
    wrong = np.where(disc[..., None], 0.1, 0.9) * np.ones(3)
    assert_allclose(masked_psnr(wrong, np.zeros_like(wrong), disc), 20.0, atol=1e-6)
