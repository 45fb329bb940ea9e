"""Eyes of a code, in the camera's frame."""

import jax.numpy as jnp
import numpy as np

from vasa_jax.arrays import Motion
from vasa_jax.autoencoder.gaze import EYES, gaze_of, look


def test_a_frontal_heads_gaze_is_its_codes_and_a_turned_heads_is_kept():
    random = np.random.default_rng(0)
    pose, code = np.zeros((3, 4, 6), np.float32), np.float32(random.normal(size=(3, 4, 9)))
    code[..., EYES] = 0.3
    np.testing.assert_allclose(gaze_of(Motion(pose, code)), 0.35 * 0.3, atol=1e-6)
    turned = Motion(np.float32(0.3 * random.normal(size=pose.shape)), code)
    wish = jnp.asarray([0.2, -0.1])
    there = look(turned, jnp.broadcast_to(wish, (3, 4, 2)))
    np.testing.assert_allclose(gaze_of(there), jnp.broadcast_to(wish, (3, 4, 2)), atol=1e-5)
    kept = np.delete(np.arange(9), np.arange(9)[EYES])
    np.testing.assert_array_equal(there.dynamics[..., kept], code[..., kept])
