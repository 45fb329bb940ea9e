"""Log-mel against librosa, and the slice of sound that frames need."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from vasa_jax.audio.log_mel import LEAD, log_mel, mel_filterbank, slice_samples

FRAMES = 12


def voice(seconds, pitch=120.0):
    """A buzz of falling harmonics with a gliding pitch through two resonances, then breath."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 3 * t))) / 16_000
    sound = 0.0
    for k in range(1, 40):
        gain = 1 / (1 + ((k * pitch - 700) / 150) ** 2) + 0.5 / (1 + ((k * pitch - 1800) / 200) ** 2)
        sound = sound + gain * np.sin(k * phase)
    breath = np.random.default_rng(0).normal(size=t.size)
    return 0.2 * sound * (t < seconds / 2) + 0.01 * breath * (t >= seconds / 2)


def signals():
    t = np.arange(640 * FRAMES) / 16_000
    noise = np.random.default_rng(1).normal(size=t.size)
    return {
        "silence": 0 * t,
        "noise": 0.3 * noise,
        "quiet noise": 1e-4 * noise,
        "low tone": 0.9 * np.sin(2 * np.pi * 110 * t),
        "high tone": 0.5 * np.sin(2 * np.pi * 5000 * t),
        "voice": voice(t.size / 16_000),
    }


def test_equals_librosa():
    whole = np.stack(list(signals().values())).astype(np.float32)
    padded = np.pad(whole, ((0, 0), (LEAD, slice_samples(FRAMES) - LEAD - whole.shape[1])))
    ours = log_mel(jnp.asarray(padded)).reshape(len(whole), 4 * FRAMES, 80)
    power = librosa.feature.melspectrogram(
        y=whole.astype(np.float64),
        sr=16_000,
        n_fft=512,
        hop_length=160,
        n_mels=80,
        fmin=0,
        fmax=8000,
        pad_mode="constant",
    )
    theirs = np.log(np.maximum(power, 1e-5)).swapaxes(1, 2)[:, : 4 * FRAMES]
    for i, name in enumerate(signals()):
        np.testing.assert_allclose(ours[i], theirs[i], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(
        mel_filterbank(),
        librosa.filters.mel(sr=16_000, n_fft=512, n_mels=80, fmin=0, fmax=8000, dtype=np.float64).T,
        atol=1e-9,
    )


def test_windows_of_a_recording_are_slices_of_its_log_mel():
    sound = jnp.asarray(voice(1.0)[None], jnp.float32)
    padded = jnp.pad(sound, ((0, 0), (LEAD, LEAD)))
    whole = log_mel(padded[:, : slice_samples(24)])
    part = log_mel(padded[:, 640 * 7 : 640 * 7 + slice_samples(5)])
    np.testing.assert_allclose(part, whole[:, 7:12], atol=1e-6)


def test_a_frame_hears_nothing_later_than_six_milliseconds_after_its_end():
    sound = jnp.zeros((1, slice_samples(3)))
    late = sound.at[:, LEAD + 640 * 2 + 96 :].set(1.0)
    np.testing.assert_array_equal(log_mel(late)[:, :2], log_mel(sound)[:, :2])
    assert (log_mel(late)[:, 2] != log_mel(sound)[:, 2]).any()


def test_strict_promotion_and_float64():
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
        assert log_mel(jnp.zeros((1, slice_samples(1)), jnp.float64)).dtype == jnp.float64
        assert log_mel(jnp.zeros((1, slice_samples(1)), jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize("samples", [0, 352, 640, 1000])
def test_a_length_that_is_no_slice_is_refused(samples):
    with pytest.raises(ValueError, match="640 t"):
        log_mel(jnp.zeros((1, samples)))
