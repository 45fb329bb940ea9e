"""What training hides, and how often."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.motion.conditions import empty, hide
from vasa_jax.motion.config import DropConfig, MotionConfig, demo_model

SAMPLES = 8000


def everything(config, batch):
    """Conditions of which all is known."""
    conditions = empty(config, batch)
    masks = {name: jnp.ones_like(value) for name, value in conditions._asdict().items() if name.endswith("_mask")}
    return conditions._replace(**masks)


@pytest.fixture(scope="module")
def hidden():
    config = dataclasses.replace(demo_model(), window=50, context=10)
    light = everything(config, SAMPLES)._replace(  # only masks matter here
        previous_motion=jnp.zeros((SAMPLES, 10, 1)),
        previous_audio=jnp.zeros((SAMPLES, 10)),
        audio=jnp.zeros((SAMPLES, 50)),
    )
    keys = jax.random.split(jax.random.key(0), SAMPLES)
    return jax.tree.map(np.asarray, jax.jit(lambda keys: hide(config, light, keys))(keys))


def test_single_conditions_go_with_probability_one_tenth_and_independently(hidden):
    masks = np.stack([hidden.gaze_mask, hidden.distance_mask, hidden.emotion_mask, hidden.audio_mask.any(1)])
    np.testing.assert_allclose(masks.mean(1), 0.9, atol=0.012)
    assert np.abs(np.corrcoef(masks) - np.eye(4)).max() < 0.05


def test_context_goes_half_the_time_with_its_audio_stays_whole_a_quarter_and_else_lacks_frames_on_the_left(hidden):
    np.testing.assert_array_equal(hidden.previous_motion_mask, hidden.previous_audio_mask)
    frames = hidden.previous_motion_mask.sum(1)
    np.testing.assert_allclose(np.bincount(frames, minlength=11) / SAMPLES, [0.5, *[0.025] * 9, 0.275], atol=0.02)
    assert (np.diff(hidden.previous_motion_mask.astype(int), axis=1) >= 0).all()


def test_the_end_of_the_audio_goes_half_the_time(hidden):
    heard = hidden.audio_mask.sum(1)
    assert (np.diff(hidden.audio_mask.astype(int), axis=1) <= 0).all()
    heard = heard[heard > 0]
    assert heard.min() == 3
    share = np.bincount(heard, minlength=51) / len(heard)
    np.testing.assert_allclose(share[3:50], 0.5 / 48, atol=0.006)
    np.testing.assert_allclose(share[50], 0.5 + 0.5 / 48, atol=0.02)


def test_what_is_unknown_stays_unknown_and_rates_of_zero_hide_nothing():
    config = dataclasses.replace(demo_model(), drop=DropConfig(condition=0.0, context=0.0, audio_tail=0.0))
    keys = jax.random.split(jax.random.key(0), 4)
    nothing = hide(config, empty(config, 4), keys)
    assert not any(value.any() for name, value in nothing._asdict().items() if name.endswith("_mask"))
    kept = hide(config, everything(config, 4), keys)
    assert kept.audio_mask.all() and kept.gaze_mask.all() and kept.previous_motion_mask[:, -1].all()


def test_a_sample_is_hidden_by_its_own_key():
    config, keys = demo_model(), jax.random.split(jax.random.key(0), 8)
    whole = hide(config, everything(config, 8), keys)
    part = hide(config, everything(config, 3), keys[4:7])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[4:7], b), whole, part)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="drop.context is 1.5"):
        DropConfig(context=1.5)
    with pytest.raises(ValueError, match="num_heads"):
        MotionConfig(width=100, num_heads=8)
    with pytest.raises(ValueError, match="window is 0"):
        MotionConfig(window=0)
    with pytest.raises(ValueError, match="audio_min_frames"):
        MotionConfig(window=2)
