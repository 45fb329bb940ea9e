"""Keypoint arithmetic against hand calculations and invariants."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from vasa_jax.liveportrait import keypoints as kp


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32))


def motion(seed, *batch, rotation=None):
    if rotation is None:
        turns = Rotation.random(int(np.prod(batch)), rng=seed).as_matrix()
        rotation = jnp.asarray(turns.reshape(*batch, 3, 3), jnp.float32)
    return kp.HeadMotion(
        rotation, numbers(*batch, 21, 3, seed=seed) * 0.1, 1.5 + numbers(*batch, 1, seed=seed + 1), numbers(*batch, 3)
    )


@pytest.mark.parametrize("bin_index, degrees", [(0, -97.5), (32, -1.5), (65, 97.5)])
def test_a_sure_bin_is_its_angle(bin_index, degrees):
    assert_allclose(kp.head_pose_degrees(jnp.full(66, -200.0).at[bin_index].set(200.0)), degrees, atol=1e-4)


def test_equal_bins_are_zero_degrees_and_two_equal_ones_their_middle():
    assert_allclose(kp.head_pose_degrees(jnp.zeros((2, 3, 66))), np.zeros((2, 3)), atol=2e-5)
    assert_allclose(kp.head_pose_degrees(jnp.full(66, -200.0).at[jnp.asarray([10, 20])].set(0.0)), 15 * 3 - 97.5)


@pytest.mark.parametrize("angle, turned", [("pitch", (0, 0, 1)), ("roll", (-1, 0, 0))])
def test_angles_turn_the_right_handed_way_and_act_transposed(angle, turned):
    """A row times R = M^T is M times the column: pitch carries y to z, roll carries y to -x."""
    heads = {name: jnp.zeros((1, size)) for name, size in {"t": 3, "exp": 63, "scale": 1, "kp": 63}.items()}
    heads |= {name: jnp.full((1, 66), -1e4).at[0, 32:34].set(0.0) for name in ("pitch", "yaw", "roll")}  # 0 degrees
    heads[angle] = jnp.full((1, 66), -1e4).at[0, 62:64].set(0.0)  # 90 degrees
    heads["scale"] = jnp.ones((1, 1))
    heads["kp"] = heads["kp"].at[0, 1].set(1.0)  # the first point, at y = 1
    points, head = kp.read_heads(heads)
    assert_allclose(kp.place(points, head)[0, 0], turned, atol=1e-6)


def test_points_are_row_vectors_scaled_after_the_expression_and_depth_never_moves():
    points, head = numbers(2, 21, 3, seed=5), motion(3, 2)
    rotation, expression, scale, translation = (np.asarray(part, np.float64) for part in head)
    for i in range(2):
        wanted = scale[i] * (np.asarray(points[i]) @ rotation[i] + expression[i]) + translation[i] * [1, 1, 0]
        assert_allclose(kp.place(points, head)[i], wanted, atol=1e-6)


def test_a_driver_that_does_not_move_leaves_the_source():
    source, still = motion(1, 1), motion(2, 1)
    moved = kp.relative_motion(source, still, still)
    for ours, wanted in zip(moved[:3], source[:3], strict=True):
        assert_allclose(ours, wanted, atol=1e-6)
    assert_allclose(moved.translation[..., :2], source.translation[..., :2], atol=1e-6)
    assert float(jnp.abs(moved.translation[..., 2]).max()) == 0.0


def test_relative_motion_composes():
    """From frame 0 to 1 to 2 is from 0 to 2."""
    source, frames = motion(1), [motion(seed) for seed in (2, 3, 4)]
    once = kp.relative_motion(source, frames[1], frames[0])
    twice = kp.relative_motion(once, frames[2], frames[1])
    direct = kp.relative_motion(source, frames[2], frames[0])
    # A turn relative to frame 1 acts before the turn that led there, so rotations compose the other way round.
    for ours, wanted in zip(twice[1:], direct[1:], strict=True):
        assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6)
    chained = np.asarray(frames[2].rotation) @ np.asarray(frames[0].rotation).T @ np.asarray(source.rotation)
    assert_allclose(direct.rotation, chained, atol=1e-5)


def test_absolute_keypoints_take_the_driving_expression():
    source, driving, first = motion(1, 3), motion(2, 3), motion(3, 3)
    moved = kp.relative_motion(source, driving, first, absolute=kp.LIPS)
    rest = [i for i in range(21) if i not in kp.LIPS]
    relative = kp.relative_motion(source, driving, first)
    assert_allclose(moved.expression[:, kp.LIPS], driving.expression[:, kp.LIPS])
    assert_allclose(moved.expression[:, rest], relative.expression[:, rest])


def test_a_face_twice_as_large_has_a_hull_eight_times_as_large():
    points = np.asarray(numbers(21, 3))
    assert_allclose(kp.hull_multiplier(2.0 * points, points), np.sqrt(8.0), rtol=1e-6)
    with pytest.raises(ValueError, match="plane"):
        kp.hull_multiplier(points, points * [1.0, 1.0, 0.0])


def test_strength_scales_the_way_from_the_source():
    source, driven = numbers(21, 3), numbers(21, 3, seed=1)
    assert_allclose(kp.amplify(driven, source, source, 1.0), driven, atol=1e-7)
    assert_allclose(kp.amplify(driven, source, source, 0.0), source)


def test_stitching_moves_points_and_then_all_of_them():
    driven = numbers(2, 21, 3)
    offsets = jnp.zeros((2, 65)).at[:, 4].set(1.0).at[:, 63].set(0.25).at[:, 64].set(-0.5)
    moved = np.asarray(kp.correct(driven, offsets) - driven)
    assert_allclose(moved[:, 1], [[0.25, 0.5, 0.0]] * 2, atol=1e-6)
    assert_allclose(moved[:, 2:], np.broadcast_to([0.25, -0.5, 0.0], (2, 19, 3)), atol=1e-6)
    assert_allclose(
        kp.correct(driven, offsets[:, :63]) - driven, np.eye(63)[4].reshape(1, 21, 3).repeat(2, 0), atol=1e-6
    )


def test_ratios_are_height_over_width_of_the_right_points():
    landmarks = np.zeros((203, 2), np.float32)
    landmarks[[6, 18]] = [[0, 0], [0, 3]]
    landmarks[[0, 12]] = [[-5, 0], [5, 0]]
    landmarks[[30, 42]] = [[20, 0], [20, 2]]
    landmarks[[24, 36]] = [[15, 0], [19, 3]]
    landmarks[[90, 102]] = [[10, 50], [10, 54]]
    landmarks[[48, 66]] = [[0, 52], [16, 52]]
    assert_allclose(kp.eye_ratios(jnp.asarray(landmarks)), [0.3, 0.4], rtol=1e-5)
    assert_allclose(kp.lip_ratio(jnp.asarray(landmarks)), [0.25], rtol=1e-5)
