"""Sound through FFmpeg (PyAV), in the way of players: what is damaged is passed over, and time stamps are kept.

A packet that cannot be decoded is passed over. Time stamps that leave a gap, also before the first sample where the
picture starts earlier, become silence. A file that was cut off ends where it was cut off. Refused are a stream without
a decoder, samples without a header (their rate would be a guess), and a stream of which most packets cannot be decoded.
"""

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from vasa_jax.errors import reason
from vasa_jax.media.mixing import BLOCK
from vasa_jax.media.parts import Part, PartFile
from vasa_jax.media.reader import Piece, Reader, Refused, standard_layout

TRIES = 200
"""Packets in a row from the beginning that may fail before a stream is given up."""
GAP = 0.1
"""Seconds by which time stamps may stray before silence fills the gap."""
LEAP = 10.0
"""Seconds of a gap that a stream whose clock may start anew fills at most."""
TAIL = 8192
"""Bytes of tables that may follow the last packet of sound in a transport stream without pictures."""
MOST_PLANES = 7
"""Channels in planes of their own that PyAV counts rightly; it reads wild memory beyond."""
LONGEST_GAP = 3600.0
"""Seconds of gaps that any file fills at most."""

PIXELS = 40_000_000
"""Of the largest picture that is decoded; 8K has 33 million."""
DECODER = {"max_pixels": str(PIXELS)}
"""Options of decoders; they also hold while FFmpeg looks at the first pictures of a file, cover art too."""
STREAMS = 64
"""Streams of a file that they are given to."""

_ANY_TEXT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""Makes PyAV take metadata in any encoding, as it does by itself from 19 on."""
_TIMED = {"mov", "matroska", "mpegts", "mpeg", "flv", "asf", "ogg", "flac"}
"""Containers (as FFmpeg calls them) whose time stamps are written and not counted."""
_RESTARTING = {"mpegts", "mpeg"}
"""Those whose clock starts anew where files were joined."""
_FULL = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}


@contextlib.contextmanager
def open_container(part: Part) -> Iterator[tuple[InputContainer, PartFile]]:
    """A part opened by FFmpeg, which gets bytes only: no name is a URL to it, and a playlist fetches nothing.

    Raises FFmpegError and OSError.
    """
    with part.open() as file, _opened(file) as container:
        for stream in container.streams.video:
            if stream.codec_context is not None:
                stream.codec_context.options = dict(DECODER)
        yield container, file


def _opened(file: PartFile) -> InputContainer:
    settings: dict[str, Any] = {"options": {"protocol_whitelist": "", "export_xmp": "1"}, **_ANY_TEXT}
    decoders: Any = [dict(DECODER)] * STREAMS  # PyAV's stubs want texts
    try:
        return av.open(file, "r", stream_options=decoders, **settings)
    except ValueError as error:
        if isinstance(error, FFmpegError):
            raise
        file.seek(0)  # a format whose head names none of its streams (FLV, MPEG-TS); its codecs know no larger pictures
        return av.open(file, "r", **settings)


def audio_streams(part: Part) -> list[tuple[int, str]]:
    """Index and codec ("" for an unknown one) of each of a part's streams of sound, those first that players choose.

    Raises Refused.
    """
    complaint = "is not a sound that libsndfile or FFmpeg can read; convert it if a player plays it"
    with _refusals(complaint), open_container(part) as (container, _):
        streams = sorted(container.streams.audio, key=lambda stream: not stream.disposition & Disposition.default)
        if not streams:
            raise Refused("is not a sound: neither libsndfile nor FFmpeg finds audio in it")
        return [(stream.index, stream.codec_context.name if stream.codec_context else "") for stream in streams]


def open_with_ffmpeg(part: Part, index: int) -> Reader:
    """One stream of a part. Raises Refused."""
    with _refusals(), open_container(part) as (container, _):
        stream = container.streams[index]
        if stream.codec_context is None:
            raise Refused("has its sound in a codec that cannot be decoded; convert it to WAV or MP3 first")
        codec, form = stream.codec_context.name, container.format.name
        if form in ("amrnb", "amrwb") or codec == f"pcm_{form}":
            raise Refused("is not a sound that tells its rate: it has no header")
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        else:
            duration = container.duration / av.time_base if container.duration else 0.0
    first = next(_pieces(part, index), None)
    samples, rate, layout = first or (np.zeros((0, 1), np.float32), 1, "mono")
    return Reader(rate, layout, samples.shape[1], duration or None, lambda: _pieces(part, index))


@contextlib.contextmanager
def _refusals(complaint: str = "is damaged: its sound cannot be decoded") -> Iterator[None]:
    try:
        yield
    except FFmpegError as error:
        raise Refused(f"{complaint} ({reason(error)})") from error


def _pieces(part: Part, index: int) -> Generator[Piece, None, None]:
    with _refusals(), open_container(part) as (container, file):
        stream = container.streams[index]
        assert isinstance(stream, av.AudioStream)
        clock = _Clock(container, stream)
        for frame in _frames(container, stream, file, clock):
            samples, rate = _samples(frame), frame.sample_rate
            layout = standard_layout(samples.shape[1]) if "channels" in frame.layout.name else frame.layout.name
            silent = round(clock.gap(frame) * rate)
            for start in range(0, silent, BLOCK):
                yield np.zeros((min(BLOCK, silent - start), samples.shape[1]), np.float32), rate, layout
            clock.seconds += len(samples) / rate
            if len(samples):
                yield samples, rate, layout


def _frames(
    container: InputContainer, stream: av.AudioStream, file: PartFile, clock: "_Clock"
) -> Generator[AudioFrame, None, None]:
    """Frames of a stream up to its end, or up to where the file was cut off. Raises FFmpegError and Refused."""
    good = bad = reached = 0
    packets = container.demux(stream)
    cut = False
    while not cut:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            reached = packet.pos + packet.size if packet.pos is not None else reached
        except IndexError:  # PyAV does not know a stream that begins on the way
            raise Refused("goes on with another stream; cut it there and join the pieces as WAV") from None
        except FFmpegError:
            if file.tell() < file.size:
                raise
            packet, cut = None, True
        try:
            frames = stream.codec_context.decode(packet)
        except FFmpegError as error:
            bad += 1
            if bad > TRIES and not good:
                raise Refused(f"is damaged: its sound cannot be decoded ({reason(error)})") from error
            continue
        good += bool(frames)
        yield from frames
    if bad > good:
        raise Refused(f"is damaged: {bad} of {bad + good} packets of its sound cannot be decoded")
    clock.check_end(reached, file.size)


class _Clock:
    """Compares time stamps with what has been read.

    Attributes:
        seconds: how much has been read since the clock's start.
    """

    def __init__(self, container: InputContainer, stream: av.AudioStream):
        self.seconds = self._filled = 0.0
        self._claimed = (container.duration or 0) / av.time_base
        form = container.format.name.split(",")[0]
        self._follows, self._restarts = form in _TIMED, form in _RESTARTING
        self._pictures = bool(container.streams.video)
        self._start: float | None = None
        self._others = [
            float(other.start_time * other.time_base)
            for other in (*container.streams.video, *container.streams.audio)
            if other.index != stream.index
            and other.start_time is not None
            and other.time_base is not None
            and not other.disposition & Disposition.attached_pic
        ]

    def gap(self, frame: AudioFrame) -> float:
        """Seconds of silence that belong before a frame. Raises Refused where it is absurd."""
        if not self._follows or frame.time is None:
            return 0.0
        if self._start is None:
            begin = min([frame.time, *self._others])
            self._start = begin if frame.time - begin > GAP else frame.time
        ahead = frame.time - self._start - self.seconds
        if abs(ahead) <= GAP:
            return 0.0
        if ahead < 0 or (self._restarts and ahead > LEAP):
            self._start += ahead
            return 0.0
        self._filled += ahead
        if self._filled > LONGEST_GAP:
            raise Refused(f"has time stamps that leap by {ahead:.0f} s; write it anew: ffmpeg -i IN -c:a aac OUT.m4a")
        self.seconds += ahead
        return ahead

    def check_end(self, reached: int, size: int) -> None:
        """Refuse a file that goes on where its sound ends, `reached` bytes on. Raises Refused."""
        if not self._follows or self._pictures or not reached:
            return
        place = f"{self.seconds:.1f} s"
        if self._restarts and size - reached > TAIL:
            raise Refused(f"goes on with another stream after {place}; cut it there and join the pieces as WAV")
        if not self._others and reached < 0.9 * size and self._claimed - self.seconds > 1.0:
            raise Refused(f"is damaged near {place}: what follows, up to {self._claimed:.1f} s, cannot be read")


def _samples(frame: AudioFrame) -> np.ndarray:
    """The samples of a frame, (n, c), float32, full scale at 1. Raises Refused for too many channels."""
    channels = frame.layout.nb_channels
    standard_layout(channels)
    kind = frame.format.name.removesuffix("p")
    if kind not in _FULL or (frame.format.is_planar and channels > MOST_PLANES):
        kind = kind if kind in _FULL else "dbl"
        (frame,) = av.AudioResampler(format=kind).resample(frame)
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    if kind == "flt":
        return np.ascontiguousarray(array)
    return ((array - 128.0 * (kind == "u8")) / _FULL[kind]).astype(np.float32)
