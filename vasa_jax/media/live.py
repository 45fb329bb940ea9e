"""Sound and video through pipes: a WAV or raw samples in, fragmented MP4 or MPEG-TS out, every frame at once.

Neither end is sought in. A video has one clock, which counts frames: frame i begins at i / 25 s and brings the samples
640 i to 640 (i + 1) at 16 kHz, so that sound and picture cannot drift apart.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.arrays import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError
from vasa_jax.media.mixing import resampled
from vasa_jax.media.video import COMMENT, TITLE

PIECE = 4096
"""Bytes that are read at most at a time."""
TYPES = {(1, 8): "u1", (1, 16): "<i2", (1, 32): "<i4", (3, 32): "<f4", (3, 64): "<f8"}
"""NumPy's names of WAV's samples, by format and bits."""
EXTENSIBLE = 0xFFFE
ENDLESS = 0x7FFF0000
"""Sizes from here on, and 0, stand in headers that were written before the sound was known."""


def read_sound(file: Any) -> Iterator[Float[np.ndarray, " n"]]:
    """Blocks of 16 kHz mono from a pipe, as soon as they are there.

    Args:
        file: whose `read(n)` gives up to n bytes and none at the end: a WAV of any rate, its channels averaged, or
            raw samples, 16 bits, little-endian, 16 kHz, mono.

    Raises:
        UserError: a WAV with samples of a kind that is not read here.
    """
    head = _exactly(file, 4)
    if head != b"RIFF":
        yield from (block[:, 0] for block in _samples(file, head, np.dtype("<i2"), 1, None))
        return
    kind, rate, channels, size = _header(file)
    blocks = (block.mean(1, dtype=np.float32) for block in _samples(file, b"", kind, channels, size))
    yield from resampled(blocks, rate, SAMPLE_RATE, 1)


def _header(file: Any) -> tuple[np.dtype, int, int, int | None]:
    """Type of samples, rate, channels and bytes of a WAV, None where these are unknown; what follows are samples."""
    _exactly(file, 8)
    form: tuple[int, int, int, int] | None = None
    while len(chunk := _exactly(file, 8)) == 8:
        name, size = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data":
            if form is None:
                break
            tag, channels, rate, bits = form
            if (tag, bits) not in TYPES or not channels or not rate:
                raise UserError(f"the WAV on standard input has format {tag} with {bits} bits; send 16 bits, as s16le")
            return np.dtype(TYPES[tag, bits]), rate, channels, size if 0 < size < ENDLESS else None
        body = _exactly(file, size + size % 2)
        if name == b"fmt " and len(body) >= 16:
            tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            form = struct.unpack("<H", body[24:26])[0] if tag == EXTENSIBLE else tag, channels, rate, bits
    raise UserError("the WAV on standard input ends before its samples; send a whole one, or raw s16le at 16 kHz")


def _samples(
    file: Any, begun: bytes, kind: np.dtype, channels: int, size: int | None
) -> Iterator[Float[np.ndarray, "n c"]]:
    width, middle = kind.itemsize * channels, 128.0 if kind == np.uint8 else 0.0
    scale = 1.0 if kind.kind == "f" else 2.0 ** (8 * kind.itemsize - 1)
    left, piece = size, begun
    while piece or (piece := file.read(PIECE if left is None else min(PIECE, left))):
        if left is not None:
            left -= len(piece)
        begun = begun + piece if begun is not piece else piece
        whole = len(begun) // width * width
        if whole:
            values = np.frombuffer(begun[:whole], kind).reshape(-1, channels)
            yield ((values.astype(np.float32) - np.float32(middle)) / np.float32(scale)).astype(np.float32)
        begun, piece = begun[whole:], b""


def _exactly(file: Any, count: int) -> bytes:
    """So many bytes, fewer at the end alone."""
    found = b""
    while len(found) < count and (piece := file.read(count - len(found))):
        found += piece
    return found


class LiveWriter:
    """Writes frames and their sound into a pipe; a context manager. What breaks the pipe is raised as it is."""

    def __init__(self, file: Any, size: tuple[int, int], container: Literal["mp4", "mpegts"] = "mp4"):
        """`file`: whose `write` takes bytes. `size`: (height, width), whose odd last row or column is left out."""
        self._height, self._width = (length // 2 * 2 for length in size)
        options = {"flush_packets": "1"}
        if container == "mp4":
            options["movflags"] = "frag_keyframe+delay_moov+default_base_moof"
        self._container = av.open(file, "w", format=container, options=options)
        self._container.metadata.update({"title": TITLE, "comment": COMMENT})
        self._video = self._container.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "crf": "20", "tune": "zerolatency", "g": str(2 * FPS)}
        )
        self._video.width, self._video.height, self._video.pix_fmt = self._width, self._height, "yuv420p"
        self._sound = self._container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        self.frames = 0

    def __enter__(self) -> "LiveWriter":
        """Nothing is written before the first frame."""
        return self

    def write(self, frames: UInt8[np.ndarray, "t h w 3"], sound: Float[np.ndarray, " n"]) -> None:
        """Appends frames and the 640 samples of each."""
        for i, frame in enumerate(frames):
            even = np.ascontiguousarray(frame[: self._height, : self._width])
            picture = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = self.frames, Fraction(1, FPS)
            theirs = sound[SAMPLES_PER_FRAME * i :][:SAMPLES_PER_FRAME]
            heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(theirs)[None], format="flt", layout="mono")
            heard.sample_rate, heard.pts = SAMPLE_RATE, SAMPLES_PER_FRAME * self.frames
            heard.time_base = Fraction(1, SAMPLE_RATE)
            self._container.mux(self._sound.encode(heard))
            self._container.mux(self._video.encode(picture))
            self.frames += 1

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Writes what encoders still hold, unless something failed."""
        if kind is None and self.frames:
            self._container.mux(self._sound.encode(None))
            self._container.mux(self._video.encode(None))
            self._container.close()
