"""Rotations, head transforms and gaze against closed forms and the signs that the conventions promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.geometry import rotation
from vasa_jax.geometry.rotation import (
    gaze_angles,
    gaze_direction,
    gaze_in_head,
    pose_rotation,
    rotation_matrix,
)

apply_pose, remove_pose = jax.jit(rotation.apply_pose), jax.jit(rotation.remove_pose)
POSES = jnp.array([[0.3, -0.5, 0.2, 0.1, -0.2, 0.15], [-0.7, 1.1, -0.4, 0.0, 0.3, -0.3]], jnp.float32)


def normal(shape):
    """Fixed normal numbers; NumPy's, for speed of compilation."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def test_rotation_is_the_transposed_product_of_elementary_matrices():
    p, y, r = 0.3, -0.5, 0.2
    x_axis = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    y_axis = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    z_axis = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    matrix = rotation_matrix(jnp.float32(p), jnp.float32(y), jnp.float32(r))
    assert_allclose(matrix, (z_axis @ y_axis @ x_axis).T, atol=1e-6)


def test_rotations_are_orthonormal_and_keep_orientation():
    matrix = pose_rotation(POSES)
    assert_allclose(matrix @ jnp.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-6)
    assert_allclose(jnp.linalg.det(matrix), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    "angle, point, axis, sign",
    [
        pytest.param(1, (0, 0, -1), 0, -1, id="positive yaw turns the face to the viewer's left"),
        pytest.param(0, (0, 0, -1), 1, 1, id="positive pitch looks down"),
        pytest.param(2, (0, -1, 0), 0, 1, id="positive roll is clockwise in the picture"),
    ],
)
def test_signs(angle, point, axis, sign):
    pose = jnp.zeros((1, 6)).at[0, angle].set(0.3)
    moved = apply_pose(jnp.array([[point]], jnp.float32), pose)[0, 0]
    assert sign * moved[axis] > 0.29


def test_translation_and_distance():
    pose = jnp.array([[0.0, 0.0, 0.0, 0.25, -0.5, np.log(2.0)]], jnp.float32)
    assert_allclose(apply_pose(jnp.ones((1, 4, 3)), pose), np.broadcast_to([0.75, 0.0, 0.5], (1, 4, 3)), atol=1e-6)


def test_remove_pose_inverts_apply_pose():
    points = normal((2, 3, 4, 5, 3))
    assert_allclose(remove_pose(apply_pose(points, POSES), POSES), points, atol=1e-5)


def test_gaze_directions():
    looks = gaze_direction(jnp.array([[0.0, 0.0], [0.2, 0.0], [0.0, 0.2]]))
    assert_allclose(looks[0], [0, 0, -1], atol=1e-7)
    assert looks[1, 0] > 0.19 and looks[2, 1] < -0.19
    angles = jnp.array([[0.4, -0.3], [-1.0, 0.9]])
    assert_allclose(gaze_angles(3.0 * gaze_direction(angles)), angles, atol=1e-6)


def test_gaze_in_head_is_the_camera_gaze_of_a_frontal_head_and_counteracts_its_turn():
    gaze = jnp.array([[0.1, -0.2]])
    assert_allclose(gaze_in_head(gaze, jnp.zeros((1, 6))), gaze, atol=1e-6)
    turned = jnp.zeros((1, 6)).at[0, 1].set(0.4)  # face to the viewer's left, eyes still on the camera
    assert_allclose(gaze_in_head(jnp.zeros((1, 2)), turned), [[0.4, 0.0]], atol=1e-6)
    nod = jnp.zeros((1, 6)).at[0, 0].set(0.4)  # face down, eyes on the camera: up in the head
    assert_allclose(gaze_in_head(jnp.zeros((1, 2)), nod), [[0.0, 0.4]], atol=1e-6)
