"""The level of sounds in closed form, and speech that is heard at one level, whatever its volume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.audio.log_mel import LEAD, hear, power_spectrum, slice_samples
from vasa_jax.audio.loudness import TARGET, level, track, unheard

TRACK = jax.jit(track)
RANDOM = np.random.default_rng(0)


def levels(sound):
    """Of the frames of one sound at 16 kHz, (1, t)."""
    padded = np.pad(sound, (LEAD, slice_samples(0) - LEAD)).astype(np.float32)
    return level(power_spectrum(jnp.asarray(padded[None])).mean(2))


def speech(seconds, noise=0.0):
    """Syllables of a buzz, four a second, that rest for a second in every three, over white noise."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    buzz = sum(np.sin(2 * np.pi * 130 * k * t + k) / k for k in range(2, 30))
    spoken = np.sin(np.pi * 4 * t) ** 2 * (t % 3 < 2)
    return 0.1 * buzz * spoken + noise * RANDOM.normal(size=t.size)


@pytest.mark.parametrize(
    "sound, expected",
    [
        (0.1 * RANDOM.normal(size=64_000), -20 + 10 * np.log10(0.6)),
        (0.5 * np.sin(2 * np.pi * 1000 * np.arange(64_000) / 16_000), 20 * np.log10(0.5 / np.sqrt(2))),
        (0.5 * np.sin(2 * np.pi * 50 * np.arange(64_000) / 16_000), -60.0),
    ],
)
def test_the_level_is_the_power_in_the_band_of_speech(sound, expected):
    """A hum of 50 Hz is far below its power: under -60 dB."""
    middle = float(levels(sound)[0, 5:-5].mean())
    assert middle == pytest.approx(expected, abs=0.2) if expected > -60 else middle < expected


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_speech_of_any_volume_comes_out_at_one_level(noise):
    sound = speech(8, noise)
    heard = []
    for volume in (0.1, 0.25, 1.0, 2.0):
        before = levels(volume * sound)
        _, gains = TRACK(unheard(1), before)
        heard.append(np.asarray(before + gains)[0])
        assert heard[-1][levels(sound)[0] > -32].mean() == pytest.approx(TARGET, abs=5)
    for other in heard[1:]:
        np.testing.assert_allclose(other[150:], heard[0][150:], atol=2.5 if noise else 8)


def test_neither_noise_nor_pauses_nor_silence_are_turned_up():
    noise = 0.003 * RANDOM.normal(size=16_000 * 10)
    _, gains = TRACK(unheard(1), levels(noise))
    assert np.abs(gains).max() == 0
    state, gains = TRACK(unheard(1), levels(0.2 * speech(8, 0.01)))
    for pause in (0.2 * 0.01 / 0.003 * noise, np.zeros(16_000 * 10)):
        _, later = TRACK(state, levels(pause))
        np.testing.assert_allclose(later, gains[0, -1], atol=0.5)


def test_a_frame_depends_on_no_later_one():
    before = levels(speech(4, 0.01))
    other = before.at[:, 60:].set(-10.0)
    np.testing.assert_array_equal(TRACK(unheard(1), before)[1][:, :60], TRACK(unheard(1), other)[1][:, :60])


def test_cut_anywhere_and_turned_over_the_sound_is_heard_alike():
    frames = 80
    sound = np.pad(speech(frames / 25, 0.01), (LEAD, slice_samples(0))).astype(np.float32)
    listen = jax.jit(hear)
    _, whole = listen(unheard(1), jnp.asarray(sound[None, : slice_samples(frames)]))
    _, inverted = listen(unheard(1), jnp.asarray(-sound[None, : slice_samples(frames)]))
    np.testing.assert_array_equal(whole, inverted)
    state, parts = unheard(1), []
    for first in range(0, frames, 20):
        piece = sound[None, 640 * first :][:, : slice_samples(20)]
        state, part = listen(state, jnp.asarray(piece))
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=2e-4)
