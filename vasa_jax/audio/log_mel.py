"""Log-mel front end: four frames of 10 ms for each video frame.

16 kHz, 512-point FFT, periodic Hann window, hop 160, 80 bands from 0 to 8 kHz on Slaney's mel scale (linear to 1 kHz,
logarithmic above, each triangle of unit area), then

    mel = log(max(power, 1e-5)).                                                                 (1)

Mel frame j is centred on sample 160 j; video frame i owns the mel frames 4 i .. 4 i + 3. A slice of sound for t video
frames therefore starts 256 samples before its first frame and has 640 t + 352 samples; with zeros for what lies
outside the recording this equals librosa.feature.melspectrogram(center=True, pad_mode="constant"). The last mel frame
of a video frame reaches 96 samples (6 ms) past its end: no frame hears more of the future than that.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.arrays import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.audio.loudness import Loudness, level, track

BANDS = 80
HOP = 160
FFT_SIZE = 512
FLOOR = 1e-5
MELS_PER_FRAME = SAMPLES_PER_FRAME // HOP
LEAD = FFT_SIZE // 2
"""Samples of a slice before its first video frame."""
SLICE_EXTRA = FFT_SIZE - HOP
"""Samples of a slice beyond those of its video frames."""


def slice_samples(frames: int) -> int:
    """Samples of the slice of sound that `frames` video frames need: 640 frames + 352, the first 256 before them."""
    return SAMPLES_PER_FRAME * frames + SLICE_EXTRA


@functools.cache
def mel_filterbank() -> Float[np.ndarray, "bins bands"]:
    """Slaney's triangles on the power spectrum, shape (257, 80), float64.

    librosa.filters.mel gives the same (a test compares them), but importing and calling it first takes 2.9 s in a fresh
    process (librosa 0.11.0, median of four on two cores; the call compiles with numba), this 4 ms.

    Source: Slaney 1998, "Auditory Toolbox": 200/3 Hz a mel up to 1 kHz, then 27 mels to a factor of 6.4 in frequency.
    """
    linear, knee, step = 200 / 3, 1000.0, np.log(6.4) / 27

    def to_hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < knee / linear, mel * linear, knee * np.exp(step * (mel - knee / linear)))

    top = knee / linear + np.log(SAMPLE_RATE / 2 / knee) / step
    edges = to_hertz(np.linspace(0, top, BANDS + 2))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    hertz = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLE_RATE)[:, None]
    triangles = np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre))
    return np.maximum(triangles, 0) * (2 / (high - low))


def log_mel(samples: Float[Array, "b n"]) -> Float[Array, "b t mels bands"]:
    """Log-mel of slices of sound, equation (1).

    Args:
        samples: (b, 640 t + 352) in -1..1, starting 256 samples before the first frame.

    Returns:
        (b, t, 4, 80), each value at least log(1e-5) = -11.5.

    Raises:
        ValueError: a length that is not 640 t + 352 with t >= 1.
    """
    return _log_mel(power_spectrum(samples))


def hear(
    state: Loudness, samples: Float[Array, "b n"], hop: int | None = None
) -> tuple[Loudness, Float[Array, "b t mels bands"]]:
    """Log-mel of slices of sound at the level that `audio.loudness` gives speech: what the network hears.

    The gain of a video frame multiplies the power of its four mel frames, so slices of one recording, each with the
    state after the one before, give the same log-mel as the whole.

    Args:
        state: of the loudness before the slice, (b,) each.
        samples: as `log_mel` takes them, at any level.
        hop: the slice after this one begins so many frames later; None is behind all frames.

    Returns:
        The state after `hop` frames, and (b, t, 4, 80).

    Raises:
        ValueError: as `log_mel`.
    """
    power = power_spectrum(samples)
    levels = level(power.mean(2))
    after, gains = track(state, levels[:, :hop])
    if gains.shape[1] < levels.shape[1]:
        gains = jnp.concatenate([gains, track(after, levels[:, hop:])[1]], 1)
    return after, _log_mel(power * jnp.power(10.0, gains / 10.0)[..., None, None])


def power_spectrum(samples: Float[Array, "b n"]) -> Float[Array, "b t mels bins"]:
    """Hann-windowed power of the four mel frames of each video frame, (b, t, 4, 257), of what `log_mel` takes."""
    frames, rest = divmod(samples.shape[1] - SLICE_EXTRA, SAMPLES_PER_FRAME)
    if rest or frames < 1:
        raise ValueError(f"{samples.shape[1]} samples are no slice of sound; t frames need 640 t + {SLICE_EXTRA}")
    count = frames * MELS_PER_FRAME
    blocks = jnp.pad(samples, ((0, 0), (0, -samples.shape[1] % HOP))).reshape(len(samples), -1, HOP)
    shifted = [blocks[:, i : i + count] for i in range(-(-FFT_SIZE // HOP))]
    windows = jnp.concatenate(shifted, axis=-1)[..., :FFT_SIZE]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)
    windowed = windows * jnp.asarray(hann, samples.dtype)[None, None]
    spectrum = jnp.fft.rfft(windowed)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return power.reshape(len(samples), frames, MELS_PER_FRAME, -1)


def _log_mel(power: Float[Array, "b t mels bins"]) -> Float[Array, "b t mels bands"]:
    bank = jnp.asarray(mel_filterbank(), power.dtype)
    mel = jnp.matmul(power, bank, precision=jax.lax.Precision.HIGHEST)
    return jnp.log(jnp.maximum(mel, FLOOR))
