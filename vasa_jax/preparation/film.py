"""A video file as pictures at 25 a second, one at a time, whatever its codec, rate, rotation or damage.

Frames are taken by their time stamps: picture k is the frame nearest to k / 25 s after the first one, so a variable
rate, 24 or 60 frames a second all come out in sync. Where no frame lies near, as in a gap or a picture that stands
still, there is no picture k. What cannot be decoded is passed over, and a file that was cut off ends there. Pictures
are upright, with square pixels, and progressive. High dynamic range is not tone mapped: such videos look dull.
"""

import contextlib
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import BlockingIOError, EOFError, FFmpegError
from av.filter import Graph
from av.stream import Disposition
from jaxtyping import UInt8

from vasa_jax.arrays import FPS
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.media.ffmpeg import open_container
from vasa_jax.media.parts import whole
from vasa_jax.preparation.config import PreparationConfig

TRIES = 200
"""Packets in a row from the beginning that may fail before a video is given up."""
UNSAID = 2
"""FFmpeg's code of a colour matrix that the file does not name."""
HIGH = 720
"""Lines from which on such a file means BT.709."""
SMALLEST, LARGEST = 16, 16384
"""Pixels of a side of a video."""


class Picture:
    """One frame, not yet converted.

    time: seconds on the file's clock. width, height: pixels, upright, with square pixels.
    """

    def __init__(self, frame: av.VideoFrame, time: float, aspect: Fraction):
        """Of a decoded frame; aspect: width over height of its pixels."""
        self.time, self._frame = time, frame
        self._turns = round(frame.rotation / 90) % 4  # telephones store how they were held
        self._size = max(1, round(frame.width * aspect)), frame.height
        self.width, self.height = self._size[::-1] if self._turns % 2 else self._size

    def pixels(self, longest: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """RGB, reduced so that the longer side has at most `longest` pixels."""
        width, height = self._size
        if longest is not None and max(width, height) > longest:
            ratio = longest / max(width, height)
            width, height = max(1, round(width * ratio)), max(1, round(height * ratio))
        wanted: dict[str, Any] = {"format": "rgb24", "width": width, "height": height}
        if int(self._frame.colorspace) == UNSAID and self._frame.height >= HIGH:
            wanted["src_colorspace"] = "ITU709"
        if (width, height) != (self._frame.width, self._frame.height):
            wanted["interpolation"] = "AREA"
        picture = self._frame.reformat(**wanted).to_ndarray()
        return np.ascontiguousarray(np.rot90(picture, self._turns)) if self._turns else picture


class Film:
    """A video that can be read from its beginning any number of times.

    start: seconds on the file's clock at which its first picture is shown.
    """

    def __init__(self, path: Path, config: PreparationConfig):
        """Open the file and decode its first frame.

        Raises:
            UserError: no such file, an empty one, no video, or none that can be decoded.
        """
        self.path, self._config = path, config
        with refusals("read", path):
            if not path.is_file():
                raise UserError(f"{path}: no such video file")
            if not path.stat().st_size:
                raise UserError(f"{path} is empty (0 bytes); name a video")
        with contextlib.closing(self._pictures()) as pictures:
            first = next(pictures, None)
        if first is None:
            raise UserError(f"{path} holds no picture that can be decoded")
        self.start = first.time

    def pictures(self) -> Iterator[tuple[int, Picture]]:
        """Numbers k, rising, and their pictures; a frame may come under several numbers, as the same object.

        Raises:
            UserError: the file cannot be read any more.
        """
        near = self._config.gap / 2 + 1e-6
        k, before = 0, None
        for picture in self._pictures():
            time = picture.time - self.start
            if before is not None and picture.time <= before.time:
                continue  # time stamps that do not rise say nothing
            while before is not None and k / FPS <= time:
                nearest = min((before, picture), key=lambda one: abs(one.time - self.start - k / FPS))
                if abs(nearest.time - self.start - k / FPS) <= near:
                    yield k, nearest
                    k += 1
                else:  # a gap: on to the first number near the frame behind it
                    k = max(k + 1, min(int((time - near) * FPS) + 1, int(time * FPS)))
            before = picture
        if before is not None and k / FPS - (before.time - self.start) <= 0.5 / FPS:
            yield k, before

    def _pictures(self) -> Generator[Picture, None, None]:
        with _refusals(self.path), open_container(whole(self.path)) as (container, _):
            stream = _video_stream(container)
            if stream is None:
                raise UserError(f"{self.path} holds no video")
            if stream.codec_context is None:
                raise UserError(f"{self.path} holds its video in a codec that cannot be decoded; convert it to H.264")
            stream.codec_context.thread_count = 1  # a worker a core
            rate = stream.average_rate or Fraction(FPS)
            comb: _Comb | None = None
            last = None
            for frame in _frames(container, stream, self.path):
                if not (SMALLEST <= min(frame.width, frame.height) and max(frame.width, frame.height) <= LARGEST):
                    raise UserError(
                        f"{self.path} has pictures of {frame.width}x{frame.height} pixels; none with a face"
                    )
                time = frame.time if frame.time is not None else (0.0 if last is None else last + float(1 / rate))
                last = time
                aspect = Fraction(stream.sample_aspect_ratio or 1)
                aspect = aspect if Fraction(1, 4) <= aspect <= 4 else Fraction(1)
                if comb is None and frame.interlaced_frame and self._config.deinterlace:
                    comb = _Comb(frame, stream)
                for clean in [frame] if comb is None else comb.push(frame):
                    yield Picture(clean, time if comb is None else float(clean.time or 0.0), aspect)
            for clean in comb.push(None) if comb is not None else ():
                yield Picture(clean, float(clean.time or 0.0), aspect)


class _Comb:
    """Makes interlaced frames progressive, one for one (FFmpeg's bwdif)."""

    def __init__(self, frame: av.VideoFrame, stream: av.VideoStream):
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or stream.time_base
        )
        clean, sink = self._graph.add("bwdif", "mode=send_frame:deint=interlaced"), self._graph.add("buffersink")
        source.link_to(clean)
        clean.link_to(sink)
        self._graph.configure()

    def push(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Give a frame, or None at the end; yields what is ready."""
        self._graph.vpush(frame)
        while True:
            try:
                yield self._graph.vpull()
            except (BlockingIOError, EOFError):
                return


def _video_stream(container: InputContainer) -> av.VideoStream | None:
    """The first stream of moving pictures; covers of music are none."""
    return next((one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None)


def _frames(container: InputContainer, stream: av.VideoStream, path: Path) -> Iterator[av.VideoFrame]:
    good = bad = 0
    packets = container.demux(stream)
    packet = None
    ended = False
    while not ended:
        try:
            packet = next(packets, None)
        except (FFmpegError, IndexError):  # cut off; or a stream that begins on the way, which PyAV does not know
            packet = None
        ended = packet is None
        try:
            frames = stream.codec_context.decode(packet)
        except FFmpegError as error:
            bad += 1
            if bad > TRIES and not good:
                raise UserError(f"{path} is damaged: its pictures cannot be decoded ({reason(error)})") from error
            continue
        good += len(frames)
        yield from frames
        ended = ended or (packet is not None and packet.size == 0)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        with refusals("read", path):
            yield
    except FFmpegError as error:
        raise UserError(f"{path} is not a video that FFmpeg can read ({reason(error)})") from error
