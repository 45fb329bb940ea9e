"""The front end and the search of SyncNet against their definitions."""

import numpy as np
import pytest
import scipy.fft

from vasa_jax.pretrained.syncnet import find_offset, mfcc, windows


def test_mfcc_of_a_tone_peaks_where_its_mel_filter_lies():
    """1 kHz is 1000 mel; 26 filters spread 2840 mel in 27 steps: the tone lies between the filters 8 and 9."""
    tone = 8000.0 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    coefficients = mfcc(tone)
    assert coefficients.shape == (99, 13)
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    cepstrum = np.zeros(26)
    cepstrum[1:13] = coefficients[50, 1:] / lifter[1:]
    assert abs(scipy.fft.idct(cepstrum, norm="ortho").argmax() - 8.5) <= 1.0


def test_first_coefficient_is_the_energy_and_louder_changes_nothing_else():
    sound = np.random.default_rng(0).normal(size=4000) * 1000
    quiet, loud = mfcc(sound), mfcc(10 * sound)
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], np.log(100.0), atol=1e-4)
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=1e-3)
    assert len(mfcc(np.ones(1))) == 1 and len(mfcc(np.ones(401))) == 2
    with pytest.raises(ValueError, match="one channel"):
        mfcc(np.zeros((2, 100)))


def test_windows_begin_at_the_same_frame():
    frames = np.zeros((9, 2, 2, 3)) + np.arange(9)[:, None, None, None]
    coefficients = np.zeros((60, 13)) + np.arange(60)[:, None]
    lips, sound = windows(frames, coefficients, 640 * 8 + 100)
    assert lips.shape == (3, 5, 2, 2, 3) and sound.shape == (3, 13, 20, 1)
    assert lips[2, 0, 0, 0, 0] == 2 and lips[2, 4, 0, 0, 0] == 6 and sound[2, 0, 0, 0] == 8 and sound[2, 0, 19, 0] == 27
    with pytest.raises(ValueError, match="six frames"):
        windows(frames[:5], coefficients, 6400)


@pytest.mark.parametrize("delay", [-3, 0, 4])
def test_a_delay_is_found(delay):
    features = np.random.default_rng(0).normal(size=(60, 8))
    found = find_offset(features[10:50], features[10 - delay : 50 - delay], reach=6)
    assert found.offset == -delay and found.confidence > 1.0 and len(found.distances) == 13
