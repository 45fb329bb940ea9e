"""Sound augmentation: the same speech in another room, through another microphone, at another level.

A clip's sound x becomes

    y = clip(g ((x * room + noise) * band), -1, 1)                                               (1)

room: a direct path and a tail of noise that falls by 60 dB in the reverberation time (Polack 1988). noise: stationary,
its spectrum falling by 0 (white) to 6 (brown) dB an octave, sometimes with mains hum, at a ratio to the speech. band:
the corners of a microphone or a telephone line. g: the volume; what exceeds full scale is clipped. Convolutions are
products of spectra, padded by the length of the tail.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.audio.loudness import BAND
from vasa_jax.errors import UserError

TAIL = 8192
"""Samples of a room's tail."""
QUIETEST = 0.01
"""RMS that a slice is taken to have at least, so that pauses get noise too."""
CORNERS = ((20.0, 400.0), (2800.0, 8000.0))
"""Where the lower and the upper corner of a band lie, Hz; in octaves alike."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundAugmentationConfig:
    """How a clip's sound changes in training; without `share` nothing does."""

    share: float = 0.0  # of the samples that are changed
    settled: float = 0.0  # share of the samples at whose first frame the loudness is known, as within a session
    gain: tuple[float, float] = (-24.0, 12.0)  # volume, dB
    snr: tuple[float, float] = (8.0, 60.0)  # speech over noise in the band of speech, dB
    tilt: tuple[float, float] = (0.0, 6.0)  # fall of the noise's spectrum, dB an octave
    hum: float = 0.2  # probability of mains hum in the noise
    room: float = 0.3  # probability of reverberation
    reverberation: tuple[float, float] = (0.1, 0.6)  # time in which it falls by 60 dB, seconds
    direct: tuple[float, float] = (0.0, 15.0)  # direct sound over reverberation, dB
    band: float = 0.3  # probability of a band limit

    def __post_init__(self) -> None:
        for name in ("share", "settled", "hum", "room", "band"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"augmentation.{name}={getattr(self, name)} must be a share in [0, 1]")
        for name in ("gain", "snr", "tilt", "reverberation", "direct"):
            low, high = getattr(self, name)
            if not -120.0 <= low <= high <= 120.0:
                raise UserError(f"augmentation.{name}={(low, high)} must be the least and the largest value, in order")
        if self.reverberation[0] <= 0.0:
            raise UserError(f"augmentation.{self.reverberation=} must be above 0 seconds")
        strengths = {field.name: field.default for field in dataclasses.fields(self)[2:]}
        idle = [name for name, default in strengths.items() if not self.share and getattr(self, name) != default]
        if idle:
            raise UserError(f"augmentation.{idle[0]} means nothing while augmentation.share is 0; raise the share")


def augment(config: SoundAugmentationConfig, key: Key[Array, ""], samples: Float[Array, " n"]) -> Float[Array, " n"]:
    """Equation (1) with random numbers of `key`, or the samples as they are; NaN stays NaN.

    Args:
        config: ranges and probabilities.
        key: of the sample.
        samples: (n,) at 16 kHz, in -1..1.
    """
    numbers, phases, tail = jax.random.split(key, 3)
    u = iter(jax.random.uniform(numbers, (12,), samples.dtype))

    def between(limits: tuple[float, float]) -> Array:
        return limits[0] + (limits[1] - limits[0]) * next(u)

    size = -(-(len(samples) + TAIL) // TAIL) * TAIL
    hertz = (np.arange(size // 2 + 1) * SAMPLE_RATE / size).astype(samples.dtype)
    changed, quieter = next(u) < config.share, between(config.snr)
    hum = jnp.where(next(u) < config.hum, 1.0, 0.0), jnp.where(next(u) < 0.5, 50.0, 60.0)
    shape = noise_shape(hertz, between(config.tilt), *hum)
    inside = next(u) < config.band, tuple(low * (high / low) ** next(u) for low, high in CORNERS)
    band = jnp.where(inside[0], band_limit(hertz, *inside[1]), 1.0)
    seconds, direct = between(config.reverberation), between(config.direct)
    echoes = jnp.where(next(u) < config.room, _power(-direct), 0.0)
    room = 1.0 + echoes * jnp.fft.rfft(_tail(tail, seconds, samples.dtype), size)

    speech = jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(samples))), QUIETEST)
    turns = jnp.exp(2j * jnp.pi * jax.random.uniform(phases, hertz.shape, samples.dtype))
    noise = speech * _power(-quieter) * size / np.sqrt(2.0) * shape * turns
    heard = jnp.fft.irfft((jnp.fft.rfft(samples, size) * room + noise) * band, size)[: len(samples)]
    return jnp.where(changed, jnp.clip(_power(between(config.gain)) * heard, -1.0, 1.0), samples)


def noise_shape(hertz: np.ndarray, tilt: Array, hum: Array, mains: Array) -> Float[Array, " bins"]:
    """Amplitude of noise by frequency, of RMS 1 in the band of speech.

    Args:
        hertz: (bins,).
        tilt: fall in dB an octave, above 50 Hz.
        hum: 1 with mains hum 30 dB over the noise up to 1 kHz, 0 without.
        mains: its frequency in Hz.
    """
    fall = (jnp.maximum(hertz, 50.0) / 50.0) ** (-tilt / 6.02)
    off = jnp.abs(hertz - mains * jnp.round(hertz / mains))
    comb = jnp.where((off < 1.0) & (hertz < 1000.0), 1.0 + 30.0 * hum, 1.0)
    shape = fall * comb * (hertz > 20.0)
    speech = (hertz >= BAND[0]) & (hertz <= BAND[1])
    return shape / jnp.sqrt(jnp.sum(jnp.where(speech, jnp.square(shape), 0.0)))


def band_limit(hertz: np.ndarray, low: Array, high: Array) -> Float[Array, " bins"]:
    """Amplitude of a Butterworth band of order 4, -3 dB at both corners."""
    lower, upper = (jnp.maximum(hertz, 1.0) / low) ** 8, (hertz / high) ** 8
    return jnp.sqrt(lower / (1.0 + lower) / (1.0 + upper))


def _tail(key: Array, seconds: Array, dtype: jnp.dtype) -> Float[Array, " n"]:
    """Noise of energy 1 that falls by 60 dB in `seconds`."""
    tail = jax.random.normal(key, (TAIL,), dtype) * 10.0 ** (-3.0 * jnp.arange(TAIL) / SAMPLE_RATE / seconds)
    return tail / jnp.sqrt(jnp.sum(jnp.square(tail)))


def _power(decibels: Array) -> Array:
    """The factor that changes an amplitude by so many dB."""
    return 10.0 ** (decibels / 20.0)
