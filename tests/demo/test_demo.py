"""What ships: the bundled demo and what it does with a synthetic speech. Bars are its figures with a small margin."""

import jax
import numpy as np
import pytest

from tests.demo.performance import demo, first_window, golden, motion, speech
from vasa_jax.arrays import FPS, SAMPLE_RATE
from vasa_jax.metrics.correlation import pearson
from vasa_jax.metrics.judges.evidence import pauses, take_of
from vasa_jax.metrics.judges.motion import second_difference, steps_at


@pytest.fixture(scope="session")
def statistics():
    return jax.device_get(demo().motion.statistics)


@pytest.fixture(scope="session")
def long():
    """The whole speech, 12 windows."""
    return motion(speech())


def short(**controls):
    """Its first window."""
    return motion(speech()[: 2 * SAMPLE_RATE], **controls)


def test_motion_and_frames_are_those_of_the_release(statistics):
    """In deviations of training motion, and in levels of 255: float32 on another machine moves them a little."""
    now, then = first_window(), golden()
    assert np.abs((now["pose"] - then["pose"]) / statistics.pose_scale).max() < 0.05
    assert np.abs(now["dynamics"] - then["dynamics"]).max() < 0.05
    apart = np.abs(now["frames"].astype(int) - then["frames"])
    assert apart.mean() < 0.5 and apart.max() <= 12


def test_windows_join(long, statistics):
    """Mean step of the normalised pose where a window begins, over that within windows."""
    border, inside = steps_at(long.pose, demo().motion.needs.window, statistics.pose_scale)
    assert border / inside < 1.3


def test_the_head_is_steady(long):
    """Mean second difference of yaw, in degrees."""
    assert np.degrees(second_difference(long.pose[:, 1])) < 0.26


@pytest.mark.parametrize(
    "gaze, asked, most",
    [
        ("forward", (0, 0), 7.5),
        ("left", (-20, 0), 3.5),
        ("right", (20, 0), 8.0),
        ("up", (0, 20), 10.0),
        ("down", (0, -20), 4.5),
    ],
)
def test_eyes_look_where_they_are_told(gaze, asked, most):
    """Mean gaze in the camera's frame, of the code's gaze in the head and the pose, off what was asked, in degrees."""
    off = np.degrees(take_of(short(gaze=gaze)).gaze).mean(0) - asked
    assert np.linalg.norm(off) < most


@pytest.mark.parametrize("asked, most", [(0.8, 0.015), (1.0, 0.045), (1.25, 0.015)])
def test_the_head_is_as_far_as_it_is_told(asked, most, statistics):
    """Mean distance over the training mean, against the factor that was asked."""
    factor = np.exp(short(distance=asked).pose[:, 5].mean() - statistics.pose_mean[5])
    assert abs(factor / asked - 1) < most


@pytest.mark.parametrize("volume", [0.1, 0.5, 2.0])
def test_the_mouth_follows_a_voice_of_any_volume_in_a_noisy_room(volume):
    """Pink noise 20 dB below the voice, clipped at full scale: the code's mouth against the true one, and how far it is
    open where nothing is said."""
    sound, mouth = speech()[: 6 * SAMPLE_RATE], golden()["mouth"][: 6 * FPS]
    white = np.fft.rfft(np.random.default_rng(0).normal(size=len(sound)))
    noise = np.fft.irfft(white / np.sqrt(1 + np.arange(len(white))))
    room = sound + 0.1 * sound.std() / noise.std() * noise
    moved = take_of(motion(np.clip(volume * room, -1, 1).astype(np.float32)))
    still = pauses(sound)
    assert pearson(mouth, moved.mouth) > 0.93
    assert moved.mouth[still].mean() < 0.03
