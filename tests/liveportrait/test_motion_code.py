"""LivePortrait's motion as pose and dynamics code: nothing is lost, and signs are the project's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.arrays import Motion
from vasa_jax.geometry.rotation import rotation_angles, rotation_matrix
from vasa_jax.liveportrait.keypoints import HeadMotion, place
from vasa_jax.liveportrait.motion_code import DYNAMICS_DIM, from_code, to_code


def random_motion(frames=7):
    random = np.random.default_rng(0)
    angles = jnp.asarray(random.uniform(-1.2, 1.2, (3, frames)), jnp.float32)
    numbers = lambda *shape: jnp.asarray(random.normal(0, 0.1, shape), jnp.float32)  # noqa: E731
    return HeadMotion(
        rotation_matrix(*angles), numbers(frames, 21, 3), 1.3 + numbers(frames, 1), numbers(frames, 3)
    ), angles


def test_angles_come_back_from_their_rotation():
    motion, angles = random_motion()
    np.testing.assert_allclose(jnp.stack(rotation_angles(motion.rotation)), angles, atol=2e-6)


def test_a_code_holds_all_of_a_motion_and_places_the_same_keypoints():
    motion, angles = random_motion()
    code = to_code(motion)
    assert code.pose.shape == (7, 6) and code.dynamics.shape == (7, DYNAMICS_DIM)
    np.testing.assert_allclose(code.pose[:, :3], angles.T, atol=2e-6)
    np.testing.assert_allclose(code.pose[:, 5], -np.log(motion.scale[:, 0]), atol=1e-6)
    back = from_code(code)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), back, motion)
    keypoints = jnp.asarray(np.random.default_rng(1).uniform(-0.5, 0.5, (7, 21, 3)), jnp.float32)
    np.testing.assert_allclose(place(keypoints, back), place(keypoints, motion), atol=5e-6)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_codes_have_any_leading_axes(shape):
    code = Motion(jnp.zeros((*shape, 6)), jnp.ones((*shape, DYNAMICS_DIM)))
    motion = from_code(code)
    assert motion.rotation.shape == (*shape, 3, 3) and motion.expression.shape == (*shape, 21, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), to_code(motion), code)
