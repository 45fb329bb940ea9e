"""Units and smoothing of the motion."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.joyvasa import FaceMotion, denormalise, smooth
from vasa_jax.joyvasa.template import SIZES


def template(seed=0):
    random = np.random.default_rng(seed)
    names = {"mean": -1.0, "std": 1.0, "min": -2.0, "max": 3.0, "abs_max": 3.0}
    parts = {**SIZES, "R": 9, "lip": 1, "eyes": 2}
    return {
        f"{kind}_{name}": base + random.uniform(size=size)
        for name, size in parts.items()
        for kind, base in names.items()
    }


def test_each_part_gets_its_own_statistics():
    stored = template()
    stored["mean_exp"] = stored["mean_exp"].reshape(1, 21, 3)
    stored["min_yaw"] = float(stored["min_yaw"][0])
    motion = np.random.default_rng(1).normal(size=(4, 73)).astype(np.float32)
    found = denormalise(motion, stored)
    exp = motion[:, :63] * stored["std_exp"] + stored["mean_exp"].reshape(-1)
    assert_allclose(found.exp, exp.reshape(4, 21, 3), rtol=1e-5, atol=1e-5)
    place = {
        "scale": slice(63, 64),
        "t": slice(64, 67),
        "pitch": slice(67, 68),
        "yaw": slice(68, 69),
        "roll": slice(69, 70),
    }
    for name, where in place.items():
        low, high = stored[f"min_{name}"], stored[f"max_{name}"]
        assert_allclose(getattr(found, name), motion[:, where] * (high - low) + low, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(denormalise(motion[:, :70], stored).roll, found.roll)


def test_a_template_that_does_not_fit_is_named():
    motion, stored = np.zeros((2, 73), np.float32), template()
    with pytest.raises(ValueError, match="no 'std_exp'"):
        denormalise(motion, {name: value for name, value in stored.items() if name != "std_exp"})
    with pytest.raises(ValueError, match="'max_t' has 2 numbers, not 3"):
        denormalise(motion, stored | {"max_t": np.zeros(2)})
    with pytest.raises(ValueError, match="69 numbers a frame are too few"):
        denormalise(motion[:, :69], stored)


def test_a_step_in_the_pose_decays_and_the_face_is_untouched():
    """y_i = 1 - 0.99^i behind a step from 0 to 1."""
    step = jnp.concatenate([jnp.zeros((1, 1)), jnp.ones((60, 1))])
    exp = jnp.arange(61 * 63.0).reshape(61, 21, 3)
    found = smooth(FaceMotion(exp, step, jnp.tile(step, (1, 3)), 2 * step, step, step))
    expected = 1 - 0.99 ** np.arange(61)[:, None]
    np.testing.assert_array_equal(found.exp, exp)
    assert_allclose(found.scale, expected, atol=1e-6)
    assert_allclose(found.t, np.tile(expected, 3), atol=1e-6)
    assert_allclose(found.pitch, 2 * expected, atol=1e-6)
    assert found.yaw.dtype == jnp.float32
    one = FaceMotion(*(part[:1] for part in found))
    np.testing.assert_array_equal(smooth(one).roll, one.roll)
    np.testing.assert_array_equal(smooth(found, 1.0).scale, found.scale)
    with pytest.raises(ValueError, match="at most 1"):
        smooth(found, 0.0)
