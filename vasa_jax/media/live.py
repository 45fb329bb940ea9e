"""Sound and video through pipes: a WAV or raw samples in, fragmented MP4 or MPEG-TS out, every frame at once.

Neither end is sought in. A video has one clock, which counts frames: frame i begins at i / 25 s and brings the samples
640 i to 640 (i + 1) at 16 kHz, so that sound and picture cannot drift apart. AAC takes blocks of 1024 samples and gives
each out when two more are full, so sound leaves later than its picture; at 48 kHz, into which it is brought, by 43 to
65 ms (at 16 kHz by three times that). Its encoder also begins with a block of silence before the first sample, which
is left out: so both tracks begin at 0, and players need no edit list, which some ignore.
"""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.arrays import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError
from vasa_jax.media.audio import FASTEST, SLOWEST
from vasa_jax.media.mixing import LAYOUTS, mono, resampled
from vasa_jax.media.reader import MAX_CHANNELS
from vasa_jax.media.tags import Tags
from vasa_jax.media.video import describe_colours, picture_of

PIECE = 4096
"""Bytes that are read at most at a time."""
SKIPPED = 1 << 16
"""Bytes of a chunk of a WAV that are kept at most."""
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
TYPES = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "<i4", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}
"""NumPy's names of WAV's samples, by format and bits; 24 bits are filled up to 32."""
ENDLESS = 0x7FFF0000
"""Sizes from here on, and 0, stand in headers that were written before the sound was known."""
OTHERS = {
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3\3": "MP3",
    b"ID3\4": "MP3",
    b"RIFX": "big-endian WAV",
    b"RF64": "RF64",
    b"FORM": "AIFF",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff\xe0": "a picture",
    b"\xff\xd8\xff\xe1": "a picture",
}
"""Beginnings of what is often sent for sound."""
RAW = "s16le at 16 kHz, as ffmpeg -i FILE -f s16le -ar 16000 -ac 1 - writes it"
RATE = 48_000
"""Of the sound of a video, samples a second."""
FRAGMENT = "empty_moov+default_base_moof+frag_custom+frag_discont"
"""Flags of FFmpeg's muxer: nothing is said of the whole, and each fragment knows its own time."""


def read_sound(file: Any) -> Iterator[Float[np.ndarray, " n"]]:
    """Blocks of 16 kHz mono from a pipe, as soon as they are there.

    Args:
        file: whose `read(n)` gives up to n bytes and none at the end: a WAV of any rate, or raw samples, 16 bits,
            little-endian, 16 kHz, mono. What was cut off is heard up to there. Several channels are mixed by half
            seconds, as for videos, and come as late.

    Raises:
        UserError: no sound at all, a WAV with samples of a kind that is not read here, or something that is no sound.
    """
    head, some = _exactly(file, 12), False
    if not head.startswith(b"RIFF"):
        if (name := _other(head)) is not None:
            raise UserError(f"standard input holds {name}; send a WAV, or {RAW}")
        blocks: Iterator[Any] = (block[:, 0] for block in _samples(file, head, (PCM, 16), 1, None))
    else:
        form, rate, channels, size = _header(file, head)
        blocks = _samples(file, b"", form, channels, size)
        blocks = mono(blocks, rate, LAYOUTS[channels]) if channels > 1 else (block[:, 0] for block in blocks)
        blocks = resampled(blocks, rate, SAMPLE_RATE, 1)
    for block in blocks:
        some = True
        yield block
    if not some:
        raise UserError(f"there is no sound on standard input; send a WAV, or {RAW}")


def _other(head: bytes) -> str | None:
    """What something is by its first bytes, None where it may be samples."""
    if head[4:8] == b"ftyp":
        return "MP4"
    if len(head) == 12 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "text"  # as samples: far from zero, and all on one side of it
    return OTHERS.get(head[:4])


def _header(file: Any, head: bytes) -> tuple[tuple[int, int], int, int, int | None]:
    """Format and bits, rate, channels and bytes of a WAV, None where these are unknown; what follows are samples."""
    form: tuple[int, int, int, int] | None = None
    while head[8:] == b"WAVE" and len(chunk := _exactly(file, 8)) == 8:
        name, size = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data" and form is not None:
            tag, channels, rate, bits = form
            if (tag, bits) not in TYPES:
                raise UserError(f"the WAV on standard input has format {tag} with {bits} bits; send {RAW}")
            if not (1 <= channels <= MAX_CHANNELS and SLOWEST <= rate <= FASTEST):
                raise UserError(f"the WAV on standard input has {channels} channels at {rate} Hz; send {RAW}")
            return (tag, bits), rate, channels, size if 0 < size < ENDLESS else None
        body, left = _exactly(file, min(size, SKIPPED)), max(0, size - SKIPPED) + size % 2
        while left and (piece := file.read(min(PIECE, left))):
            left -= len(piece)
        if name == b"fmt " and len(body) >= 16:
            tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            if tag == EXTENSIBLE and len(body) >= 26:
                tag = struct.unpack("<H", body[24:26])[0]
            form = tag, channels, rate, bits
    raise UserError(f"the WAV on standard input ends before its samples; send a whole one, or {RAW}")


def _samples(
    file: Any, begun: bytes, form: tuple[int, int], channels: int, size: int | None
) -> Iterator[Float[np.ndarray, "n c"]]:
    width, left, piece = form[1] // 8 * channels, size, begun
    begun = b""
    while piece or (piece := file.read(PIECE if left is None else min(PIECE, left))):
        if left is not None:
            left -= len(piece)
        begun += piece
        whole = len(begun) // width * width
        if whole:
            yield _numbers(begun[:whole], form).reshape(-1, channels)
        begun, piece = begun[whole:], b""


def _numbers(data: bytes, form: tuple[int, int]) -> Float[np.ndarray, " n"]:
    """Samples in [-1, 1]."""
    kind = np.dtype(TYPES[form])
    if form == (PCM, 24):
        packed = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data = np.pad(packed, ((0, 0), (1, 0))).tobytes()
    values = np.frombuffer(data, kind)
    if kind.kind == "f":
        return values.astype(np.float32)
    middle = 128.0 if kind == np.uint8 else 0.0
    return ((values - middle) / 2.0 ** (8 * kind.itemsize - 1)).astype(np.float32)


def _exactly(file: Any, count: int) -> bytes:
    """So many bytes, fewer at the end alone."""
    found = b""
    while len(found) < count and (piece := file.read(count - len(found))):
        found += piece
    return found


class LiveWriter:
    """Writes frames and their sound into a pipe; a context manager. What breaks the pipe is raised as it is.

    Attributes:
        frames: how many were written.
    """

    def __init__(
        self,
        file: Any,
        size: tuple[int, int],
        container: Literal["mp4", "mpegts"] = "mp4",
        tags: Tags = Tags(),  # noqa: B008 (frozen)
    ):
        """Nothing is written before the first frame.

        Args:
            file: whose `write` takes bytes; it is called once for each call of `write`, with whole fragments.
            size: (height, width) in pixels, whose odd last row or column is left out.
            container: MP4 in fragments, or MPEG-TS, which can be entered at any time, and in which the last frame waits
                for the next ones, until there is sound for it.
            tags: of the stream; MPEG-TS knows the name of a service and of its provider alone, which are the title and
                the identity.
        """
        self._file, self._mp4 = file, container == "mp4"
        self._height, self._width = (length // 2 * 2 for length in size)
        self._buffer = io.BytesIO()
        options = (
            {"movflags": f"{FRAGMENT}+use_metadata_tags"}
            if self._mp4
            else {"pes_payload_size": "0", "flush_packets": "1"}
        )
        self._container = av.open(self._buffer, "w", format=container, options=options)
        service = {"service_name": tags.title, "service_provider": f"vasa-jax {tags.identity}"}
        self._container.metadata.update(tags.named() if self._mp4 else service)
        options = {"preset": "veryfast", "crf": "20", "tune": "zerolatency", "g": str(2 * FPS)}
        self._video = self._container.add_stream("libx264", rate=FPS, options=options)
        self._video.width, self._video.height, self._video.pix_fmt = self._width, self._height, "yuv420p"
        describe_colours(self._video.codec_context)
        self._sound = self._container.add_stream("aac", rate=RATE, layout="mono")
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        self._container.start_encoding()
        if self._mp4:
            self._buffer.write(tags.box())
        self._fragments = 0
        self.frames = 0

    def __enter__(self) -> "LiveWriter":
        """Itself."""
        return self

    def write(self, frames: UInt8[np.ndarray, "t h w 3"], sound: Float[np.ndarray, " n"]) -> None:
        """Appends frames and the 640 samples of each, all in one fragment."""
        packets = []
        heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound)[None], format="flt", layout="mono")
        heard.sample_rate, heard.pts = SAMPLE_RATE, SAMPLES_PER_FRAME * self.frames
        heard.time_base = Fraction(1, SAMPLE_RATE)
        for block in self._resampler.resample(heard):
            packets += self._sound.encode(block)
        for frame in frames:
            picture = picture_of(frame[: self._height, : self._width], "yuv420p")
            picture.pts, picture.time_base = self.frames, Fraction(1, FPS)
            packets += self._video.encode(picture)
            self.frames += 1
        self._send(packets)

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Writes what encoders still hold, unless something failed."""
        if kind is not None or not self.frames:
            return
        packets = self._video.encode(None)
        for block in (*self._resampler.resample(None), None):
            packets += self._sound.encode(block)
        self._send(packets, last=True)

    def _send(self, packets: list[Any], last: bool = False) -> None:
        packets = [packet for packet in packets if packet.pts is not None and packet.pts >= 0]
        if self._mp4:
            self._write_fragment(packets)
        else:
            self._container.mux(packets)
            if last:
                self._container.close()
        data = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        if data:
            self._file.write(data)

    def _write_fragment(self, packets: list[Any]) -> None:
        """Appends a fragment to the buffer: one muxer writes one, since a muxer alone cannot be told when it ends."""
        whole = io.BytesIO()
        self._fragments += 1
        options = {"movflags": FRAGMENT, "fragment_index": str(self._fragments), "avoid_negative_ts": "disabled"}
        with av.open(whole, "w", format="mp4", options=options) as part:
            streams = [part.add_stream_from_template(stream) for stream in (self._video, self._sound)]
            for mine, theirs in zip((self._video, self._sound), streams, strict=True):
                theirs.time_base = mine.time_base
            for packet in packets:
                packet.stream = streams[packet.stream.index]
            part.mux(packets)
        data, at = whole.getvalue(), 0
        while at < len(data):
            size, name = struct.unpack(">I4s", data[at : at + 8])
            if name in (b"moof", b"mdat"):
                self._buffer.write(data[at : at + size])
            at += size
