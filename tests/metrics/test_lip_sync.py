"""Clips without silence at their ends, and the null tokens of a model that is told nothing."""

import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.arrays import Motion
from vasa_jax.inference.offline import Model
from vasa_jax.inference.pair import Sound
from vasa_jax.metrics import lip_sync
from vasa_jax.metrics.correlation import voiced_span


def test_clips_are_equally_long_and_begin_and_end_in_speech():
    """One second each: 25 frames, 16,000 samples, sound at both ends, a jaw that moves."""
    clips = lip_sync.speeches(range(3_000_000, 3_000_010), 2, 1.0)
    for clip in clips:
        assert clip.states.jaw.shape == (25,) and clip.audio.shape == (16_000,)
        assert clip.states.jaw.std() > 0.01
        begin, end = voiced_span(clip.audio, 640)
        assert begin <= 1 and end >= 20
    assert clips[0].seed < clips[1].seed


def test_too_few_clips_are_refused():
    """The message says how many there are."""
    with pytest.raises(ValueError, match="hold only 1 clips"):
        lip_sync.speeches(range(3_000_000, 3_000_001), 2, 0.4)


class StubMotion:
    """A motion model that notes how it is guided."""

    needs = Sound(256, 96, 8)

    def __init__(self):
        self.asked = []

    def make_controls(self):
        """No controls."""

    def start(self, key, portrait, controls):
        """No carry."""

    def step(self, carry, sound, heard, hop, controls, options):
        """Eight frames of nothing."""
        self.asked.append(dict(options.guidance))
        return carry, Motion(jnp.zeros((8, 6)), jnp.zeros((8, 5)))


class StubModel(Model):
    """A model that only moves."""

    def __init__(self):
        self.motion = StubMotion()


def test_null_tokens_replace_every_window():
    """H(C without A) alone: 1 + l = 0 of everything known; as many frames as there is sound."""
    model = StubModel()
    motions = list(lip_sync.unheard(model, None, np.ones(10 * 640, np.float32), 0))
    assert [len(motion.pose) for motion in motions] == [8, 2]
    assert model.motion.asked == [{"audio": -1.0, "gaze": 0.0}] * 2
