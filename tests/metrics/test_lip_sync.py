"""Clips without silence at their ends, and the null tokens of a model that is told nothing."""

import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.arrays import Motion, Portrait
from vasa_jax.inference.offline import Model
from vasa_jax.inference.pair import Sound
from vasa_jax.metrics import lip_sync
from vasa_jax.metrics.correlation import voiced_span
from vasa_jax.metrics.probe import Reading


@pytest.fixture
def unseen(monkeypatch):
    """The world without its pictures."""
    blank = lambda people, states, size: np.zeros((len(states.jaw), size, size, 3), np.float32)  # noqa: E731
    monkeypatch.setattr(lip_sync, "photograph", blank)


def test_clips_are_equally_long_and_begin_and_end_in_speech(unseen):
    """One second each: 25 frames of pictures and truth, 16,000 samples, sound at both ends, a mouth that moves."""
    clips = lip_sync.spoken_clips(range(3_000_000, 3_000_010), 2, 1.0, 8)
    for clip in clips:
        assert clip.frames.shape == (25, 8, 8, 3) and clip.audio.shape == (16_000,)
        assert clip.truth.mouth.shape == (25,) and clip.truth.gaze.shape == (25, 2)
        assert clip.truth.mouth.std() > 0.01
        begin, end = voiced_span(clip.audio, 640)
        assert begin <= 1 and end >= 20
    assert clips[0].seed < clips[1].seed


def test_too_few_clips_are_refused(unseen):
    """The message says how many there are."""
    with pytest.raises(ValueError, match="hold only 1 clips"):
        lip_sync.spoken_clips(range(3_000_000, 3_000_001), 2, 0.4, 8)


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
    """Frames that show nothing, from the stub."""

    def __init__(self):
        self.motion = StubMotion()

    def portrait(self, image, crop=None):
        """No portrait."""
        return Portrait(jnp.zeros((1, 1, 1, 1, 1)), jnp.zeros((1, 4, 4, 1)))

    def frames(self, portrait, motions):
        """One blank frame a motion."""
        for motion in motions:
            yield from np.zeros((len(motion.pose), 4, 4, 3), np.uint8)


def test_null_tokens_replace_every_window():
    """H(C without A) alone: 1 + l = 0 of everything known; as many frames as there is sound."""
    truth = Reading(np.zeros((10, 6)), np.zeros(10), np.zeros((10, 2)), np.zeros((10, 2)))
    audio = np.ones(10 * 640, np.float32)
    clip = lip_sync.SpokenClip(0, np.zeros((10, 4, 4, 3), np.uint8), audio, truth)
    model = StubModel()
    seen, frames = lip_sync.speak(model, clip, audio, lambda frames: truth, "null", 0)
    assert seen is truth and frames.shape == (10, 4, 4, 3)
    assert model.motion.asked == [{"audio": -1.0, "gaze": 0.0}] * 2
