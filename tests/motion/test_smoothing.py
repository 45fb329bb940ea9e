"""The smoother of head poses, against what is known of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.arrays import FPS
from vasa_jax.motion.smoothing import smooth_head, smoother


@pytest.mark.parametrize("frames", [1, 3, 4, 60])
def test_quadratics_pass_unchanged_up_to_the_ends(frames):
    t = np.arange(frames) / 10
    curve = 0.3 - t + 0.5 * t**2
    np.testing.assert_allclose(smoother(frames, 4.0) @ curve, curve, atol=1e-9)


@pytest.mark.parametrize("frequency, response", [(0.5, 1.0), (4.0, 0.5), (12.0, 0.012)])
def test_half_of_a_sine_at_the_cutoff_passes(frequency, response):
    wave = np.exp(2j * np.pi * frequency * np.arange(200) / FPS)
    passed = (smoother(200, 4.0) @ wave)[80:120] / wave[80:120]
    np.testing.assert_allclose(np.abs(passed), response, atol=2e-3)


def test_the_head_alone_is_smoothed():
    motion = jnp.asarray(np.random.default_rng(0).normal(size=(2, 20, 9)), jnp.float32)
    smooth = smooth_head(4.0, motion)
    np.testing.assert_array_equal(smooth[..., 6:], motion[..., 6:])
    np.testing.assert_allclose(smooth[1, :, 2], smoother(20, 4.0) @ np.asarray(motion[1, :, 2], float), atol=1e-6)
    shake = [np.abs(np.diff(np.asarray(x[..., :6]), 2, axis=1)).mean() for x in (motion, smooth)]
    assert shake[1] < 0.2 * shake[0]
