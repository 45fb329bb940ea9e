"""Eyes that look elsewhere in training, and the condition that says where."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.motion.tiny import TINY, batch
from vasa_jax.arrays import Motion
from vasa_jax.autoencoder.gaze import EYES, gaze_of
from vasa_jax.training.eyes import turn_eyes

K = TINY.context
DATA = batch(64) | {"motion_dynamics": 0.1 * jax.random.normal(jax.random.key(1), (64, 9, 6))}


def test_the_condition_is_the_codes_own_gaze_over_the_window():
    seen = turn_eyes(0.4, K, DATA)
    np.testing.assert_allclose(seen["motion_dynamics"], DATA["motion_dynamics"])
    own = gaze_of(Motion(DATA["motion_pose"], DATA["motion_dynamics"]))
    np.testing.assert_allclose(seen["gaze"], own[:, K:].mean(1), atol=1e-6)


def test_a_shift_turns_context_window_and_condition_alike_by_the_samples_own_key():
    keys = jax.random.split(jax.random.key(0), 64)
    still, seen = turn_eyes(0.4, K, DATA), turn_eyes(0.4, K, DATA, keys)
    motion = Motion(DATA["motion_pose"], seen["motion_dynamics"])
    shift = seen["gaze"] - still["gaze"]
    by_frame = gaze_of(motion) - gaze_of(Motion(DATA["motion_pose"], DATA["motion_dynamics"]))
    np.testing.assert_allclose(by_frame, jnp.broadcast_to(shift[:, None], by_frame.shape), atol=1e-5)
    turned = np.abs(shift).max(1) > 1e-5
    assert 0.55 < turned.mean() < 0.85 and 0.3 < np.abs(shift).max() <= 0.4 + 1e-5
    others = np.delete(np.arange(6), np.arange(6)[EYES])
    np.testing.assert_array_equal(seen["motion_dynamics"][..., others], DATA["motion_dynamics"][..., others])
    part = turn_eyes(0.4, K, jax.tree.map(lambda x: x[3:5], DATA), keys[3:5])
    np.testing.assert_allclose(part["gaze"], seen["gaze"][3:5], atol=1e-6)
