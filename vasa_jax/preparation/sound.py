"""The voice of a video as 16 kHz mono that keeps in step with its pictures, read once, from the beginning on.

Blocks are placed by their own time stamps on the clock of the pictures: what begins later, or leaves a gap, has silence
before it; what began earlier, or overlaps, loses that part. Whether a clip is kept depends on how loud it is and on how
much of it is speech, which a voice activity detector hears (Silero VAD, 2021).
"""

import contextlib
import math
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from jaxtyping import Float32

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.media.ffmpeg import open_container
from vasa_jax.media.mixing import BLOCK, LAYOUTS, mono, resampled
from vasa_jax.media.parts import whole

STRAY = 0.01
"""Seconds by which time stamps may stray from the count of samples: a quarter of a frame."""
CHUNK = 512
"""Samples that the detector hears at a time."""
QUIETEST = -120.0
"""Decibels of full scale that stand for silence."""


@runtime_checkable
class Detector(Protocol):
    """A voice activity detector, as Silero's."""

    def reset(self) -> None:
        """Forget what was heard."""
        ...

    def process_samples(self, samples: Any) -> float:
        """The probability of speech in `CHUNK` samples of 16 kHz mono."""
        ...


class Voice:
    """The first or default sound of a file; `read` moves forward, what lies behind `forget` is gone."""

    def __init__(self, path: Path, start: float):
        """Open nothing yet.

        Args:
            path: of the video.
            start: seconds on the file's clock where sample 0 lies.
        """
        self._blocks = resampled_blocks(path, start)
        self._kept = np.zeros(0, np.float32)
        self._first = 0  # the number of the first sample that is kept
        self._ended = False
        self.there = True
        self._pull(1)
        if not len(self._kept):
            self.there = False

    def read(self, begin: int, end: int) -> Float32[np.ndarray, " n"]:
        """Samples begin to end; silence where the file has none."""
        self._pull(end)
        assert begin >= self._first or begin < 0, "what was forgotten is asked for"
        given = self._kept[max(0, begin - self._first) : max(0, end - self._first)]
        before = max(0, -begin)
        return np.pad(given, (before, max(0, end - begin - before - len(given)))).astype(np.float32)

    def forget(self, before: int) -> None:
        """Drop the samples before a number."""
        drop = min(len(self._kept), max(0, before - self._first))
        self._kept, self._first = self._kept[drop:], self._first + drop

    def close(self) -> None:
        """Close the file."""
        self._blocks.close()

    def _pull(self, end: int) -> None:
        got = [self._kept]
        there = self._first + len(self._kept)
        while there < end and not self._ended:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
                break
            got.append(block)
            there += len(block)
        if len(got) > 1:
            self._kept = np.concatenate(got)


def resampled_blocks(path: Path, start: float) -> Generator[np.ndarray, None, None]:
    """The sound of a file from `start` seconds on its clock on, float32 blocks (n,) at 16 kHz; none without sound.

    What cannot be decoded is silence, as far as time stamps tell; damage ends the sound.
    """
    with contextlib.suppress(FFmpegError, OSError), open_container(whole(path)) as (container, _):
        stream = next((one for one in container.streams.audio if one.codec_context is not None), None)
        best = container.streams.best("audio")
        stream = best if isinstance(best, av.AudioStream) and best.codec_context is not None else stream
        if stream is not None and stream.rate:
            channels = min(stream.codec_context.layout.nb_channels or 1, max(LAYOUTS))
            layout = LAYOUTS[channels]
            blocks = _placed(_frames(container, stream, layout), start, stream.rate, channels)
            yield from resampled(mono(blocks, stream.rate, layout), stream.rate, SAMPLE_RATE, 1)


def _frames(
    container: InputContainer, stream: av.AudioStream, layout: str
) -> Iterator[tuple[float | None, np.ndarray]]:
    """Seconds on the file's clock and samples (n, c) of one rate and layout."""
    converter = av.AudioResampler(format="flt", layout=layout, rate=stream.rate)
    packets = container.demux(stream)
    packet = None
    while True:
        try:
            packet = next(packets, None)
        except (FFmpegError, IndexError):
            return
        with contextlib.suppress(FFmpegError):
            for frame in stream.codec_context.decode(packet):
                for same in converter.resample(frame):
                    yield same.time, same.to_ndarray().reshape(-1, len(same.layout.channels)).astype(np.float32)
        if packet is None:
            return


def _placed(
    frames: Iterator[tuple[float | None, np.ndarray]], start: float, rate: int, channels: int
) -> Iterator[np.ndarray]:
    """Samples (n, channels) without gaps, the first of them at `start`."""
    count = 0
    for time, samples in frames:
        samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
        ahead = 0 if time is None else round((time - start) * rate) - count
        if abs(ahead) > STRAY * rate or (count == 0 and ahead):
            if ahead < 0:
                samples = samples[-ahead:]
            while ahead > 0:
                silence = min(ahead, BLOCK)
                yield np.zeros((silence, channels), np.float32)
                ahead, count = ahead - silence, count + silence
        if len(samples):
            count += len(samples)
            yield samples


def loudness(samples: Float32[np.ndarray, " n"]) -> float:
    """Root mean square in decibels of full scale, at least -120."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(QUIETEST, 10 * math.log10(power)) if power > 0 else QUIETEST


def speech_share(samples: Float32[np.ndarray, " n"], detector: Detector, least: float) -> float:
    """The share of 32 ms chunks in which a voice is heard, 0 to 1.

    Args:
        samples: 16 kHz mono.
        detector: hears the chunks in order, from a fresh start.
        least: probability of speech that counts.
    """
    detector.reset()
    chunks = samples[: len(samples) // CHUNK * CHUNK].reshape(-1, CHUNK)
    heard = [detector.process_samples(chunk.tolist()) >= least for chunk in chunks]
    return float(np.mean(heard)) if heard else 0.0
