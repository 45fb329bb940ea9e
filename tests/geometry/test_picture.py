"""Picture sampling against closed forms, and the face crop against the pose convention."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from vasa_jax.geometry.picture import FACE_CENTRE, face_crop, face_crop_grid, in_plane_grid, resample, sample_2d
from vasa_jax.geometry.rotation import apply_pose


def ramp(size: int) -> jax.Array:
    """A picture whose two channels are its own x and y, [-1, 1] from pixel centre to pixel centre."""
    side = jnp.linspace(-1.0, 1.0, size)
    return jnp.stack(jnp.meshgrid(side, side), -1)[None]


def test_bilinear_sampling_is_exact_on_a_ramp():
    """A linear picture is reproduced at any place inside, and clamped at the border outside."""
    place = jax.random.uniform(jax.random.key(0), (1, 5, 7, 2), minval=-1.0, maxval=1.0)
    assert_allclose(sample_2d(ramp(9), place), place, atol=1e-6)
    assert_allclose(sample_2d(ramp(9), place * 0 + 3.0), 1.0, atol=1e-6)


def test_a_place_has_the_slope_of_the_picture_inside_and_none_outside():
    """The two channels of the ramp rise by one along their own axis."""
    slope = jax.jacobian(lambda place: sample_2d(ramp(9), place)[0, 0, 0])
    assert_allclose(slope(jnp.array([0.3, -0.6]).reshape(1, 1, 1, 2)).reshape(2, 2), np.eye(2), atol=1e-5)
    assert_allclose(slope(jnp.array([1.5, -2.0]).reshape(1, 1, 1, 2)), 0.0)


def test_each_picture_of_a_batch_is_sampled_from_itself():
    """Batch entries do not mix."""
    pictures = jnp.stack([jnp.zeros((4, 4, 1)), jnp.ones((4, 4, 1))])
    out = sample_2d(pictures, jnp.zeros((2, 3, 3, 2)))
    assert_allclose(out[0], 0.0)
    assert_allclose(out[1], 1.0)


def test_a_smooth_picture_is_the_same_at_any_size():
    """Corners stay corners: a cosine that ends flat is drawn at both sizes; its own size changes nothing."""

    def wave(size):
        line = jnp.cos(jnp.pi * jnp.linspace(-1.0, 1.0, size))
        return (line[:, None] * line[None, :])[None, ..., None]

    for size in (33, 9):
        assert_allclose(resample(wave(17), size), wave(size), atol=0.03)
    assert_allclose(resample(wave(17), 17), wave(17), atol=1e-6)


def test_crop_of_a_neutral_head_is_a_plain_rectangle():
    """With a zero pose the crop is centred on the face centre and `reach` wide."""
    grid = face_crop_grid(jnp.zeros((1, 6)), 5, 0.5)[0]
    x, y = FACE_CENTRE[:2]
    assert_allclose(grid[0, 0], [x - 0.5, y - 0.5], atol=1e-6)
    assert_allclose(grid[4, 4], [x + 0.5, y + 0.5], atol=1e-6)


def test_crop_follows_roll_translation_and_distance():
    """Roll > 0 turns the head clockwise in the picture: its right side (viewer's) moves down. Twice the distance
    halves the crop."""
    pose = jnp.asarray([[0.0, 0.0, np.pi / 2, 0.1, -0.2, np.log(2.0)]])
    grid = face_crop_grid(pose, 3, 0.4)[0]
    middle = np.asarray([0.1 - 0.5 * FACE_CENTRE[1], -0.2 + 0.5 * FACE_CENTRE[0]])
    assert_allclose(grid[1, 1], middle, atol=1e-6)
    assert_allclose(grid[1, 2] - grid[1, 1], [0.0, 0.2], atol=1e-6)


def test_crop_follows_yaw():
    """Yaw > 0 turns the face to the viewer's left, so its centre moves left."""
    grid = face_crop_grid(jnp.asarray([[0.0, 0.5, 0.0, 0.0, 0.0, 0.0]]), 3, 0.4)[0]
    assert_allclose(grid[1, 1, 0], FACE_CENTRE[2] * np.sin(0.5), atol=1e-6)


def test_the_pose_gets_no_gradient():
    """The crop never teaches the pose encoder."""
    slope = jax.grad(lambda pose: face_crop(ramp(9), pose, 4, 0.5).sum())(jnp.full((1, 6), 0.1))
    assert_allclose(slope, 0.0)


def test_a_move_in_the_plane_follows_every_point_of_the_head():
    """Points of a head at any depth, posed before and after: the grid leads from where each is to where it was."""
    random = np.random.default_rng(0)
    points = jnp.asarray(random.uniform(-0.4, 0.4, (1, 30, 3)), jnp.float32)
    pose = jnp.array([[0.2, -0.4, 0.1, 0.05, -0.1, 0.1]])
    offset = jnp.array([[0.0, 0.0, -0.3, 0.15, 0.1, -0.2], [0.0, 0.0, 0.4, -0.2, 0.05, 0.15]])
    before = apply_pose(points, pose)[..., :2]
    after = apply_pose(jnp.tile(points, (2, 1, 1)), pose + offset)[..., :2]
    assert jnp.abs(after).max() < 1.0
    found = sample_2d(in_plane_grid(pose, pose + offset, 17), after[:, :, None])
    assert_allclose(found[:, :, 0], jnp.tile(before, (2, 1, 1)), atol=1e-5)
