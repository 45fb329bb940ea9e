"""SyncNet (Chung and Zisserman 2016): do lips and voice belong together, and by how many frames are they apart?

Two towers give 1024 numbers for 0.2 s of lips (five frames) and for the sound of that moment (20 steps of 13 MFCCs);
matching pairs lie close. The towers are those of the public `syncnet_v2` weights, in evaluation mode; the front end and
the search follow the scores that papers quote (S_D, S_C).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.errors import UserError

FRAMES = 5
"""Frames in a window of lips."""
STEPS = 20
"""Steps of 10 ms in a window of sound; a frame of video lasts four."""
FEATURES = 1024

_RATE, _WINDOW, _STEP, _FFT, _FILTERS, _COEFFICIENTS, _LIFTER = 16_000, 400, 160, 512, 26, 13, 22
_AUDIO_FEATURES = (64, 192, 384, 256, 256)
Pools = dict[int, tuple[tuple[int, int], Any]]
"""Layer to (strides, padding) of the 3x3 max-pool behind it."""
_AUDIO_POOLS: Pools = {1: ((1, 2), "VALID"), 4: ((2, 2), "VALID")}
_LIP_POOLS: Pools = {0: ((2, 2), "VALID"), 1: ((2, 2), ((1, 1), (1, 1))), 4: ((2, 2), "VALID")}


class SyncNet(nn.Module):
    """Both towers; call `apply(variables, ..., method="lips" | "audio")`, or `init` with a window of each."""

    def setup(self):
        """Name the layers."""
        self.audio_convolutions = [
            *(nn.Conv(features, (3, 3), padding=1) for features in _AUDIO_FEATURES),
            nn.Conv(512, (5, 4), padding="VALID"),
        ]
        self.audio_norms = [_norm() for _ in range(6)]
        self.audio_head = (nn.Dense(512), _norm(), nn.Dense(FEATURES))
        self.lip_convolutions = [
            nn.Conv(96, (7, 7), 2, padding="VALID"),  # over all five frames at once: 15 channels
            nn.Conv(256, (5, 5), 2, padding=1),
            *(nn.Conv(256, (3, 3), padding=1) for _ in range(3)),
            nn.Conv(512, (6, 6), padding="VALID"),
        ]
        self.lip_norms = [_norm() for _ in range(6)]
        self.lip_head = (nn.Dense(512), _norm(), nn.Dense(FEATURES))

    def __call__(
        self, frames: Float[Array, "n 5 224 224 3"], mfcc: Float[Array, "n 13 20 1"]
    ) -> tuple[Float[Array, "n 1024"], Float[Array, "n 1024"]]:
        """Features of lips and of sound."""
        return self.lips(frames), self.audio(mfcc)

    def lips(self, frames: Float[Array, "n 5 224 224 3"]) -> Float[Array, "n 1024"]:
        """Features of five face crops each, BGR in 0..255."""
        n, _, height, width, _ = frames.shape
        x = jnp.moveaxis(frames, 1, 3).reshape(n, height, width, -1)
        x = _tower(self.lip_convolutions, self.lip_norms, _LIP_POOLS, x)
        return _head(self.lip_head, x)

    def audio(self, mfcc: Float[Array, "n 13 20 1"]) -> Float[Array, "n 1024"]:
        """Features of 0.2 s of sound each, from `mfcc`."""
        x = _tower(self.audio_convolutions, self.audio_norms, _AUDIO_POOLS, mfcc)
        return _head(self.audio_head, x)


class Sync(NamedTuple):
    """What a search of offsets found.

    offset: frames by which the sound must be shifted. confidence: S_C, median minus least distance; higher is better.
    distance: S_D, the least; lower is better. distances: (2 reach + 1,), one a shift from -reach to reach.
    """

    offset: int
    confidence: float
    distance: float
    distances: np.ndarray


def mfcc(samples: np.ndarray) -> np.ndarray:
    """MFCCs of 16 kHz sound in the units of int16, (steps, 13), as the network was trained on.

    Windows of 25 ms every 10 ms without taper, pre-emphasis 0.97, 512-point power spectrum, 26 triangular mel filters,
    orthonormal DCT, sine lifter 22; the first coefficient is the logarithm of the energy.

    Raises:
        UserError: no samples.
    """
    sound = np.asarray(samples, np.float64)
    if sound.ndim != 1 or not len(sound):
        raise UserError(f"sound of shape {sound.shape} must be one channel of one sample or more")
    sound = np.append(sound[0], sound[1:] - 0.97 * sound[:-1])
    steps = 1 + max(0, -(-(len(sound) - _WINDOW) // _STEP))
    sound = np.pad(sound, (0, max(0, (steps - 1) * _STEP + _WINDOW - len(sound))))
    windows = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_STEP][:steps]
    power = np.square(np.abs(np.fft.rfft(windows, _FFT))) / _FFT
    tiny = np.finfo(np.float64).eps
    energy = np.where(power.sum(1) == 0.0, tiny, power.sum(1))
    from scipy.fft import dct  # here, since no video should wait for it

    mel = power @ _mel_filters().T
    logarithm = np.log(np.where(mel == 0.0, tiny, mel))
    cepstrum = np.asarray(dct(logarithm, axis=1, norm="ortho"))[:, :_COEFFICIENTS]
    lifter = 1.0 + 0.5 * _LIFTER * np.sin(np.pi * np.arange(_COEFFICIENTS) / _LIFTER)
    result = cepstrum * lifter
    result[:, 0] = np.log(energy)
    return result.astype(np.float32)


def windows(frames: np.ndarray, coefficients: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of lips and sound that begin at the same frames, as views.

    Args:
        frames: (t, 224, 224, 3) BGR crops at 25 frames a second.
        coefficients: (steps, 13) of `mfcc`.
        samples: length of the sound, at 16 kHz.

    Returns:
        (n, 5, 224, 224, 3) and (n, 13, 20, 1) with n = min(t, samples / 640) - 5.

    Raises:
        UserError: a clip of less than six frames.
    """
    count = min(len(frames), samples // 640) - FRAMES
    if count < 1:
        raise UserError(f"{len(frames)} frames and {samples} samples are too short: six frames are needed")
    lips = np.moveaxis(np.lib.stride_tricks.sliding_window_view(frames, FRAMES, 0), -1, 1)[:count]
    sound = np.lib.stride_tricks.sliding_window_view(coefficients, STEPS, 0)[::4][:count]
    return lips, sound[..., None]


def find_offset(lips: np.ndarray, audio: np.ndarray, reach: int = 15) -> Sync:
    """S_D, S_C and the offset from features of equal windows, (n, 1024) each; shifts go from -reach to reach frames.

    Sound beyond the ends counts as zeros, and every difference has 1e-6 added, as in the published scores.
    """
    if lips.shape != audio.shape:
        raise UserError(f"lips {lips.shape} and audio {audio.shape} must have the same windows")
    padded = np.pad(np.asarray(audio, np.float64), ((reach, reach), (0, 0)))
    shifted = np.stack([padded[i : i + len(lips)] for i in range(2 * reach + 1)])
    distances = np.sqrt(np.square(np.asarray(lips, np.float64) - shifted + 1e-6).sum(-1)).mean(1)
    least = int(distances.argmin())
    return Sync(reach - least, float(np.median(distances) - distances[least]), float(distances[least]), distances)


def _mel_filters() -> np.ndarray:
    top = 2595.0 * np.log10(1.0 + 0.5 * _RATE / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, _FILTERS + 2) / 2595.0) - 1.0)
    edges = np.floor((_FFT + 1) * hertz / _RATE)
    bins = np.arange(_FFT // 2 + 1)
    filters = np.zeros((_FILTERS, len(bins)))
    for row, low, centre, high in zip(filters, edges, edges[1:], edges[2:], strict=False):
        rising, falling = (bins >= low) & (bins < centre), (bins >= centre) & (bins < high)
        row[rising] = (bins[rising] - low) / (centre - low)
        row[falling] = (high - bins[falling]) / (high - centre)
    return filters


def _norm() -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5)


def _tower(convolutions: Any, norms: Any, pools: Pools, x: Array) -> Array:
    for index, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        x = nn.relu(norm(convolution(x)))
        if index in pools:
            strides, padding = pools[index]
            x = nn.max_pool(x, (3, 3), strides, padding)
    return x


def _head(layers: tuple, x: Array) -> Array:
    first, norm, second = layers
    return second(nn.relu(norm(first(x.reshape(len(x), -1)))))
