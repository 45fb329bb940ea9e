"""Any sound as a stream of blocks: at its own rate for the output file, and as 16 kHz mono for the motion model.

The motion model hears 16 kHz mono (VASA-1 section 3.3: audio features at the frames' rate; 640 samples a frame here),
a listener wants the original. Both come from one `Sound`, which reads blocks and never holds the whole file, so an hour
costs as much memory as a second. soundfile reads what libsndfile knows; everything else (AAC in MP4, WebM, the sound of
a video) is decoded by PyAV. Resampling is soxr's streaming filter, flushed at the end, so a sound of n samples at rate
r becomes n * 16000 / r samples (rounded), whatever the size of the blocks.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from av.container import InputContainer
from av.error import FFmpegError

from vasa_jax.arrays import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError

AudioSource = str | os.PathLike | np.ndarray | tuple[np.ndarray, int]

BLOCK = 1 << 15  # samples that a block holds at most
MAX_CHANNELS = 8


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound that can be read from its beginning any number of times.

    Attributes:
        name: what error messages call it.
        rate: samples a second.
        channels: 1 to 8.
        duration: seconds, or None where the file does not say (then only reading to the end tells).
        read: opens the sound and yields blocks (n, channels), float32, nominally in [-1, 1].
    """

    name: str
    rate: int
    channels: int
    duration: float | None
    read: Callable[[], Generator[np.ndarray, None, None]]

    def blocks(self) -> Generator[np.ndarray, None, None]:
        """Yields float32 blocks (n, channels) from the first sample to the last.

        Raises:
            UserError: a sample is NaN or infinite, or the file is damaged.
        """
        position = 0
        for block in self.read():
            if not np.isfinite(block).all():
                raise UserError(
                    f"{self.name} holds NaN or infinite samples near {position / self.rate:.2f} s; repair it first"
                )
            position += len(block)
            if len(block):
                yield block


def open_sound(source: AudioSource) -> Sound:
    """Opens a file, an array at 16 kHz, or a pair (array, rate).

    Args:
        source: a path; or samples (n,) or (n, channels), float in [-1, 1] or integer at full scale, alone (16 kHz) or
            with their rate.

    Raises:
        UserError: no such file, not a sound, no samples, NaN among the first samples, or an array of another shape.
    """
    if isinstance(source, str | os.PathLike):
        sound = _open_file(Path(source))
    elif isinstance(source, tuple):
        sound = _open_array(*source)
    else:
        sound = _open_array(source, SAMPLE_RATE)
    if next(sound.blocks(), None) is None:
        raise UserError(f"{sound.name} has zero length: it holds no samples")
    return sound


def _open_file(path: Path) -> Sound:
    if not path.exists():
        raise UserError(f"{path}: no such sound file")
    if not path.is_file():
        raise UserError(f"{path} is not a file; name a sound file")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); name a sound file")
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a headerless format such as .raw
        return _open_compressed(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    _check_channels(str(path), channels)
    return Sound(str(path), rate, channels, frames / rate, lambda: _soundfile_blocks(path))


def _soundfile_blocks(path: Path) -> Generator[np.ndarray, None, None]:
    try:
        with soundfile.SoundFile(path) as file:
            yield from file.blocks(blocksize=BLOCK, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path} is damaged: {error.error_string}") from error


def _open_compressed(path: Path) -> Sound:
    try:
        with _av_open(path) as container:
            if not container.streams.audio:
                raise UserError(f"{path} is not a sound: neither soundfile nor PyAV finds audio in it")
            stream = container.streams.audio[0]
            rate, channels, layout = stream.rate, stream.channels, stream.layout.name
            if stream.duration is not None and stream.time_base is not None:
                duration = float(stream.duration * stream.time_base)
            else:
                duration = container.duration / av.time_base if container.duration else None
    except FFmpegError as error:
        raise UserError(f"{path} is not a sound: neither soundfile nor PyAV can read it ({error.strerror})") from error
    if not rate or not channels:
        raise UserError(f"{path} is not a sound: its audio stream has no rate or no channels")
    _check_channels(str(path), channels)
    return Sound(str(path), rate, channels, duration, lambda: _av_blocks(path, rate, layout))


def _av_open(path: Path) -> InputContainer:
    # Only local files: a playlist must not make the reader fetch anything.
    return av.open(str(path), options={"protocol_whitelist": "file"})


def _av_blocks(path: Path, rate: int, layout: str) -> Generator[np.ndarray, None, None]:
    try:
        with _av_open(path) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
            for frame in container.decode(stream):
                for part in resampler.resample(frame):
                    yield np.ascontiguousarray(part.to_ndarray().T)
            for part in resampler.resample(None):
                yield np.ascontiguousarray(part.to_ndarray().T)
    except FFmpegError as error:
        raise UserError(f"{path} is damaged: its sound cannot be decoded ({error.strerror})") from error


def _open_array(samples: np.ndarray, rate: int) -> Sound:
    samples = np.asarray(samples)
    name = "the audio array"
    if samples.ndim not in (1, 2):
        raise UserError(f"{name} has shape {samples.shape}; give (samples,) or (samples, channels)")
    if rate != int(rate) or rate <= 0:
        raise UserError(f"{name} has {rate=}; give a whole number of samples a second")
    if np.issubdtype(samples.dtype, np.signedinteger):
        scale = 1.0 / -float(np.iinfo(samples.dtype).min)
    elif np.issubdtype(samples.dtype, np.floating):
        scale = 1.0
    else:
        raise UserError(f"{name} has dtype {samples.dtype}; give floats in [-1, 1] or signed integers")
    samples = samples[:, None] if samples.ndim == 1 else samples
    _check_channels(name, samples.shape[1])

    def read() -> Generator[np.ndarray, None, None]:
        for start in range(0, len(samples), BLOCK):
            yield (samples[start : start + BLOCK] * scale).astype(np.float32)

    return Sound(name, int(rate), samples.shape[1], len(samples) / rate, read)


def _check_channels(name: str, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise UserError(
            f"{name} has {channels} channels; at most {MAX_CHANNELS} can be read (an array is (samples, channels))"
        )


class AudioReader:
    """A sound as blocks of 16 kHz mono, of any length in bounded memory; iterate it as often as you like.

    Attributes:
        sound: the sound at its own rate.
        frames: the number of 25 fps frames the sound will fill, ceil(samples / 640), or None where the file does not
            say how long it is.
    """

    def __init__(self, source: AudioSource):
        """Opens `source` (see `open_sound`, whose UserErrors this raises)."""
        self.sound = open_sound(source)
        duration = self.sound.duration
        self.frames = None if duration is None else max(1, math.ceil(round(duration * SAMPLE_RATE) / SAMPLES_PER_FRAME))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields float32 blocks (n,), n >= 1, the mean of the channels at 16 kHz.

        Raises:
            UserError: a sample is NaN or infinite, or the file is damaged.
        """
        mono = (block.mean(axis=1) for block in self.sound.blocks())
        if self.sound.rate == SAMPLE_RATE:
            yield from mono
            return
        resampler = soxr.ResampleStream(self.sound.rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        for block in mono:
            resampled = resampler.resample_chunk(block)
            if len(resampled):
                yield resampled
        rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        if len(rest):
            yield rest


def load_audio(source: AudioSource) -> np.ndarray:
    """The whole sound as 16 kHz mono float32 (n,);

    For short sounds, since it is held in memory. Raises what `AudioReader` raises.
    """
    return np.concatenate(list(AudioReader(source)))
