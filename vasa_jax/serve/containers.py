"""What a viewer gets: one fragmented MP4 in pieces, or single JPEG pictures and pieces of sound.

Both have one clock, which counts frames of 40 ms. A hop whose frames were dropped, since its viewer was slow, keeps its
sound: in an MP4 the last picture stays for as long (so that the stream has no hole, and players go on), as JPEG nothing
is sent for it. Everything says in its tags that it is generated.

A piece of the second kind is one byte, `PICTURE` or `SOUND`, eight bytes, the microseconds of the stream's clock at
which it begins (unsigned, big-endian), and then a JPEG picture or 16-bit little-endian mono samples at 16 kHz.
"""

import io
import struct
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vasa_jax.arrays import FPS
from vasa_jax.media.live import LiveWriter
from vasa_jax.media.tags import Tags

PICTURE, SOUND = 1, 2
"""Types of pieces."""
QUALITY = 88
"""Of JPEG pictures, of 100."""
LARGE = 1280 * 720
"""Pixels of the largest picture of H.264's level 3.1."""


class Hop(NamedTuple):
    """Frames that go out together.

    first: number of the first one. count: how many. frames: uint8 (count, h, w, 3), None where they were dropped.
    sound: float32 (640 count,) at 16 kHz.
    """

    first: int
    count: int
    frames: UInt8[np.ndarray, "t h w 3"] | None
    sound: Float[np.ndarray, " n"]


@runtime_checkable
class Container(Protocol):
    """Turns hops into bytes; not for several threads at once."""

    mime: str

    def encode(self, hop: Hop) -> list[bytes]:
        """The binary frames of a hop."""
        ...


class Mp4:
    """H.264 and AAC in fragments."""

    def __init__(self, height: int, width: int, tags: Tags = Tags()):  # noqa: B008 (frozen)
        """Sizes of frames in pixels; what the stream says in its tags."""
        level = "1f" if height * width <= LARGE else "33"
        self.mime = f'video/mp4; codecs="avc1.6400{level},mp4a.40.2"'
        self._pieces: list[bytes] = []
        self._writer = LiveWriter(self, (height, width), tags=tags)
        self._last = np.zeros((1, height, width, 3), np.uint8)

    def write(self, data: bytes) -> int:
        """Takes what the writer writes."""
        self._pieces.append(bytes(data))
        return len(data)

    def encode(self, hop: Hop) -> list[bytes]:
        """At most one binary frame."""
        frames = np.repeat(self._last, hop.count, 0) if hop.frames is None else hop.frames
        self._last = frames[-1:]
        self._writer.write(frames, hop.sound)
        data = b"".join(self._pieces)
        self._pieces.clear()
        return [data] if data else []


class Jpeg:
    """Pictures and sound apart."""

    mime = "image/jpeg"

    def __init__(self, tags: Tags = Tags()):  # noqa: B008 (frozen)
        """What every picture says in its tags: the words alone, which are small."""
        self._comment = f"{tags.comment} {tags.identity}".rstrip()

    def encode(self, hop: Hop) -> list[bytes]:
        """A binary frame for the sound, and one for each picture."""
        samples = np.clip(np.round(hop.sound * 32768), -32768, 32767).astype("<i2")
        pieces = [_head(SOUND, hop.first) + samples.tobytes()]
        for i, frame in enumerate(() if hop.frames is None else hop.frames):
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "JPEG", quality=QUALITY, comment=self._comment)
            pieces.append(_head(PICTURE, hop.first + i) + file.getvalue())
        return pieces


def _head(kind: int, frame: int) -> bytes:
    return struct.pack(">BQ", kind, frame * 1_000_000 // FPS)


def container(name: str, height: int, width: int, tags: Tags = Tags()) -> Container:  # noqa: B008 (frozen)
    """The container of a `protocol.Start`."""
    return Mp4(height, width, tags) if name == "mp4" else Jpeg(tags)
