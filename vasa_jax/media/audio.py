"""Any sound as a stream of blocks: at its own rate for the output file, and as 16 kHz mono for the motion model.

The motion model hears 16 kHz mono (VASA-1 section 3.3: audio features at the frames' rate; 640 samples a frame here),
a listener wants the original. Both come from one `Sound`, which reads blocks and never holds the whole file, so an hour
costs as much memory as a second. How long a sound is, is counted by reading it; what its headers say is an estimate.
Resampling is soxr's streaming filter, flushed at the end, so a sound of n samples at rate r becomes n * 16000 / r
samples (rounded), whatever the size of the blocks.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np

from vasa_jax.arrays import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError, refusals
from vasa_jax.media.mixing import BLOCK, LAYOUTS, mono, resampled
from vasa_jax.media.reader import MAX_CHANNELS
from vasa_jax.media.sound_file import open_sound_file

AudioSource = str | os.PathLike | np.ndarray | tuple[np.ndarray, int | float]

LOUDEST = 16.0
"""Larger samples are on another scale than [-1, 1]."""
NARROW = 2.0**-15
"""Integers of 32 or 64 bits that reach no more of full scale hold samples of fewer bits."""
SLOWEST, FASTEST = 1000, 1_000_000  # samples a second


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound that can be read from its beginning any number of times.

    Attributes:
        name: what error messages call it.
        rate: samples a second.
        channels: 1 to 8.
        layout: of the channels, as FFmpeg calls it: mono, stereo, 5.1 and so on.
        duration: seconds, an estimate from headers; None where they say nothing. Only reading to the end tells.
        read: opens the sound and yields blocks (n, channels), float32, nominally in [-1, 1].
    """

    name: str
    rate: int
    channels: int
    layout: str
    duration: float | None
    read: Callable[[], Generator[np.ndarray, None, None]]

    def blocks(self) -> Generator[np.ndarray, None, None]:
        """Yields float32 blocks (n, channels) from the first sample to the last.

        Raises:
            UserError: a sample is NaN or infinite, or on another scale than [-1, 1]; or the file is damaged.
        """
        position = 0
        for block in self.read():
            place = f"near {position / self.rate:.2f} s"
            if not np.isfinite(block).all():
                raise UserError(f"{self.name} holds NaN or infinite samples {place}; repair it first")
            if len(block) and (peak := float(np.abs(block).max())) > LOUDEST:
                raise UserError(
                    f"{self.name} holds samples as large as {peak:.0f} {place}, but floats must be in [-1, 1]; divide "
                    "them by 32768 if they are on the scale of 16-bit integers"
                )
            position += len(block)
            if len(block):
                yield block


def open_sound(source: AudioSource) -> Sound:
    """Opens a file, an array at 16 kHz, or a pair (array, rate).

    Args:
        source: a path; or samples (n,) or (n, channels), float in [-1, 1] or integer at full scale (unsigned ones with
            silence in the middle), alone (16 kHz) or with their rate.

    Raises:
        UserError: no such file, not a sound, no samples, an array of another shape, or what `Sound.blocks` finds among
            the first samples.
    """
    if isinstance(source, str | os.PathLike):
        sound = _open_file(Path(source))
    elif isinstance(source, tuple):
        sound = _open_array(*source)
    else:
        sound = _open_array(source, SAMPLE_RATE)
    if not SLOWEST <= sound.rate <= FASTEST:
        raise UserError(f"{sound.name} has a rate of {sound.rate} samples a second; a voice has {SLOWEST} to {FASTEST}")
    if next(sound.blocks(), None) is None:
        raise UserError(f"{sound.name} has zero length: it holds no samples, or was cut off before them")
    return sound


def _open_file(path: Path) -> Sound:
    with refusals("read", path):
        if not path.exists():
            raise UserError(f"{path}: no such sound file")
        if not path.is_file():
            raise UserError(f"{path} is not a file; name a sound file")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); name a sound file")
    file = open_sound_file(path)

    def read() -> Generator[np.ndarray, None, None]:
        for samples, *_ in file.pieces():
            yield samples

    return Sound(str(path), file.rate, file.channels, file.layout, file.duration, read)


def _open_array(samples: np.ndarray, rate: int | float) -> Sound:
    samples = np.asarray(samples)
    name = "the audio array"
    if samples.ndim not in (1, 2):
        raise UserError(f"{name} has shape {samples.shape}; give (samples,) or (samples, channels)")
    if not math.isfinite(rate) or rate != int(rate) or rate < 1:
        raise UserError(f"{name} has {rate=}; give a whole number of samples a second")
    samples = samples[:, None] if samples.ndim == 1 else samples
    channels = samples.shape[1]
    if not 1 <= channels <= MAX_CHANNELS:
        raise UserError(
            f"{name} has {channels} channels; at most {MAX_CHANNELS} can be read (an array is (samples, channels))"
        )
    middle, scale = _integer_range(samples, name)

    def read() -> Generator[np.ndarray, None, None]:
        for start in range(0, len(samples), BLOCK):
            block = samples[start : start + BLOCK]
            yield ((block.astype(np.float64) - middle) / scale if scale != 1 else block).astype(np.float32)

    return Sound(name, int(rate), channels, LAYOUTS[channels], len(samples) / rate, read)


def _integer_range(samples: np.ndarray, name: str) -> tuple[float, float]:
    """What in an array stands for silence, and how far from it full scale is. Raises UserError."""
    if np.issubdtype(samples.dtype, np.floating):
        return 0.0, 1.0
    if not np.issubdtype(samples.dtype, np.integer):
        raise UserError(f"{name} has dtype {samples.dtype}; give floats in [-1, 1] or integers at full scale")
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = scale if np.issubdtype(samples.dtype, np.unsignedinteger) else 0.0
    if samples.size and samples.dtype.itemsize > 2:
        peak = max(abs(float(samples.max()) - middle), abs(float(samples.min()) - middle))
        if 0 < peak <= scale * NARROW:
            raise UserError(
                f"{name} is {samples.dtype} but only reaches {peak:.0f} of {scale:.0f}, as samples of fewer bits do; "
                "give them the dtype of their width, as audio.astype(np.int16)"
            )
    return middle, scale


class AudioReader:
    """A sound as blocks of 16 kHz mono, of any length in bounded memory; iterate it as often as you like.

    Attributes:
        source: what it was made of.
        sound: the sound at its own rate.
        frames: how many 25 fps frames the sound may fill, ceil(samples / 640): exact for arrays, for files an estimate
            from headers, or None where they say nothing. For progress only.
    """

    def __init__(self, source: AudioSource):
        """Opens `source` (see `open_sound`, whose UserErrors this raises)."""
        self.source, self.sound = source, open_sound(source)
        duration = self.sound.duration
        self.frames = None if duration is None else max(1, math.ceil(round(duration * SAMPLE_RATE) / SAMPLES_PER_FRAME))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields float32 blocks (n,), n >= 1, at 16 kHz: the channels mixed as `mixing.mono` says.

        Raises:
            UserError: what `Sound.blocks` raises.
        """
        sound, empty = self.sound, True
        for block in resampled(mono(sound.blocks(), sound.rate, sound.layout), sound.rate, SAMPLE_RATE, 1):
            empty = False
            yield block
        if empty:
            raise UserError(f"{sound.name} is shorter than a single sample at 16 kHz")


def load_audio(source: AudioSource) -> np.ndarray:
    """The whole sound as 16 kHz mono float32 (n,);

    For short sounds, since it is held in memory. Raises what `AudioReader` raises.
    """
    return np.concatenate(list(AudioReader(source)))
