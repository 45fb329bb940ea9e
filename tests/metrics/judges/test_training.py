"""What a run asks of itself: on motion that is known, whatever the model."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.arrays import Motion
from vasa_jax.inference.pair import Sound
from vasa_jax.inference.vasa import MotionModel
from vasa_jax.metrics.judges.training import Spoken, judge_motion

WINDOW, FRAMES = 10, 45


def staircase(border):
    """Steps of 1 within windows, others where they begin."""
    steps = np.where(np.arange(1, FRAMES) % WINDOW == 0, border, 1.0)
    return np.concatenate([[0.0], steps.cumsum()])[:, None]


@pytest.fixture
def model(monkeypatch):
    """A model that plays a staircase with seams of 4, a window a step."""
    played = staircase(4.0)

    def step(self, carry, sound, heard, hop, controls, options):
        assert options.steps == 7 and heard == hop == WINDOW
        part = np.zeros((WINDOW, 1))
        part[: len(played[carry : carry + WINDOW])] = played[carry : carry + WINDOW]
        return carry + WINDOW, Motion(np.repeat(part, 6, 1), np.repeat(part, 3, 1))

    monkeypatch.setattr(MotionModel, "step", step)
    one = object.__new__(MotionModel)
    one.needs = Sound(0, 0, WINDOW)
    one.start = lambda key: 0
    return one


def test_a_run_hears_of_its_seams(model):
    """The seam is 4; of a clip whose steps are 1.5 and 2.5 in turn the mean is 2 and the second difference 1."""
    frame = np.arange(FRAMES)[:, None]
    zigzag = 2.0 * frame + 0.25 * (-1.0) ** frame
    clip = Spoken(np.zeros(640 * FRAMES + 5), Motion(np.repeat(zigzag, 6, 1), np.repeat(zigzag, 3, 1)), None)
    numbers = judge_motion(model, [clip, clip], 7)
    assert set(numbers) == {"seam/pose", "seam/dynamics", "jitter", "amplitude"}
    assert_allclose([numbers["seam/pose"], numbers["seam/dynamics"]], 4.0, rtol=1e-6)
    assert_allclose(numbers["amplitude"], (4 * 4 + 40) / 44 / 2, rtol=1e-6)
    assert_allclose(numbers["jitter"], 4 * 2 * 3 / 43, rtol=1e-6)
    known = clip._replace(mouth=staircase(4.0)[:, 0])
    assert_allclose(judge_motion(model, [known], 7)["mouth"], 1.0)
