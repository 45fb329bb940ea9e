"""The augmentation of sound: each part alone, measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.audio.augmentation import SoundAugmentationConfig, augment, band_limit, noise_shape
from vasa_jax.audio.loudness import level

STILL = {
    "share": 1.0,
    "gain": (0.0, 0.0),
    "snr": (120.0, 120.0),
    "hum": 0.0,
    "room": 0.0,
    "band": 0.0,
}
KEY = jax.random.key(0)
VOICE = 0.1 * np.random.default_rng(1).normal(size=30_000).astype(np.float32)


def changed(sound=VOICE, key=KEY, **fields):
    return np.asarray(augment(SoundAugmentationConfig(**(STILL | fields)), key, jnp.asarray(sound, jnp.float32)))


def test_nothing_changes_without_a_share_or_with_every_part_at_rest():
    np.testing.assert_array_equal(augment(SoundAugmentationConfig(), KEY, jnp.asarray(VOICE)), VOICE)
    np.testing.assert_allclose(changed(), VOICE, atol=1e-5)


def test_the_key_decides_and_a_missing_sound_stays_missing():
    wild = SoundAugmentationConfig(share=1.0)
    first, again, other = (augment(wild, key, jnp.asarray(VOICE)) for key in (KEY, KEY, jax.random.key(1)))
    assert (first == again).all() and (first != other).any() and first.shape == VOICE.shape
    assert jnp.isnan(augment(wild, KEY, jnp.full(1000, jnp.nan))).all()


def test_the_noise_has_the_ratio_that_was_asked_for():
    """White noise against white noise: the same ratio in the band of speech as everywhere, but for its width."""
    noise = changed(snr=(10.0, 10.0), tilt=(0.0, 0.0)) - VOICE
    spectra = np.abs(np.fft.rfft(noise[: 512 * 58].reshape(-1, 512) * np.hanning(513)[:-1])) ** 2
    in_band = float(level(jnp.asarray(spectra.mean(0), jnp.float32)))
    assert in_band == pytest.approx(-20 - 10, abs=0.3)


def test_noise_falls_by_its_tilt_and_hums_at_multiples_of_the_mains():
    hertz = np.arange(8001.0)
    for tilt in (0.0, 3.0, 6.0):
        shape = noise_shape(hertz, *map(jnp.asarray, (tilt, 0.0, 50.0)))
        assert 20 * np.log10(shape[1000] / shape[2000]) == pytest.approx(tilt, abs=0.01)
        assert jnp.square(shape[200:5001]).sum() == pytest.approx(1.0, abs=1e-3)
    hum = noise_shape(hertz, *map(jnp.asarray, (0.0, 1.0, 60.0)))
    assert hum[120] / hum[90] == pytest.approx(31.0) and hum[1200] == hum[1230]


def test_a_room_rings_for_its_time():
    """The energy of the tail falls by 60 dB within the reverberation time; direct over reverberant is as asked."""
    click = np.zeros(16_000)
    click[0] = 0.5
    ringing = changed(click, room=1.0, reverberation=(0.4, 0.4), direct=(6.0, 6.0))
    tail = (ringing - click) / 0.5
    assert 10 * np.log10(np.square(tail).sum()) == pytest.approx(-6.0, abs=0.5)
    early, late = (np.square(tail[start : start + 800]).mean() for start in (0, 3200))
    assert 10 * np.log10(early / late) == pytest.approx(30.0, abs=2.0)


def test_a_band_has_its_corners():
    hertz = np.array([20.0, 300.0, 1000.0, 3400.0, 8000.0])
    limit = 20 * np.log10(np.asarray(band_limit(hertz, jnp.asarray(300.0), jnp.asarray(3400.0))))
    np.testing.assert_allclose(limit[[1, 2, 3]], [-3.0, 0.0, -3.0], atol=0.05)
    assert limit[0] < -90 and limit[4] < -25


def test_what_is_louder_than_full_scale_is_clipped():
    loud = changed(gain=(26.0, 26.0))
    assert np.abs(loud).max() == 1.0
    quiet = changed(gain=(-20.0, -20.0))
    np.testing.assert_allclose(quiet, 0.1 * VOICE, atol=1e-5)


@pytest.mark.parametrize(
    "field, value", [("share", 1.5), ("room", -0.1), ("snr", (20.0, 10.0)), ("reverberation", (0.0, 1.0))]
)
def test_impossible_strengths_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        SoundAugmentationConfig(**{field: value})


def test_a_strength_without_a_share_is_refused():
    with pytest.raises(ValueError, match="augmentation.room means nothing while augmentation.share is 0"):
        SoundAugmentationConfig(room=0.5)
