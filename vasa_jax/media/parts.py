"""A sound file as it really is: cut where whole files were joined, with lengths that are counted instead of believed.

Tools join files by writing one behind the other, and readers stop where the first one ends. `parts` finds where each
begins, by the first bytes of its own format (MP3, ADTS and MPEG transport streams need no cutting: their readers go
on). Writers that were cut off, or wrote to a pipe, leave lengths in a header that are 0, all ones, too long or too
short; the length of the samples is taken as right only where it leads to the end of the part or to another chunk, and
else they reach to the end of the part.
"""

import dataclasses
import io
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 22  # bytes that are searched at a time
HEADER = 256  # bytes that tell a format

_AU = rb"\.snd\0\0.{6}\0\0\0[\x01-\x1d]\0[\0-\x0b].{2}\0\0\0[\x01-\x08]"
_MARKS = [
    (mark, re.compile(header, re.DOTALL))
    for mark, header in (
        (b"RIFF", rb"RIFF.{4}(WAVE|AVI )[ -~]{4}"),
        (b"RIFX", rb"RIFX.{4}WAVE[ -~]{4}"),
        (b"RF64", rb"RF64.{4}WAVE[ -~]{4}"),
        (b"BW64", rb"BW64.{4}WAVE[ -~]{4}"),
        (b"riff\x2e\x91\xcf\x11", rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"),  # Sony Wave64
        (b"FORM", rb"FORM.{4}AIF[FC][ -~]{4}"),
        (b"caff", rb"caff\0\x01\0\0desc"),
        (b".snd", _AU),
        (b"fLaC", rb"fLaC[\0\x80]\0\0\x22"),
        (b"OggS\0\2", rb"OggS\0\x02\0{8}.{4}\0{4}"),  # the first page of a stream
        (b"\x1aE\xdf\xa3", rb"\x1aE\xdf\xa3.{1,48}(webm|matroska)"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c"),  # ASF
        (b"#!AMR", rb"#!AMR(-WB)?\n"),
    )
]
_TAIL = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"JUNK", b"PAD ", b"FLLR", b"afsp", b"cue ", b"smpl")


@dataclasses.dataclass(frozen=True)
class Part:
    """Bytes `start` to `end` of a file, which are a file of their own, with corrected bytes of its header.

    Attributes:
        path: of the file.
        start, end: in bytes.
        patches: (offset from `start`, bytes) that replace what the file says there.
    """

    path: Path
    start: int
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()

    def open(self) -> "PartFile":
        """The part as a file to read and seek. Raises OSError."""
        return PartFile(self)


class PartFile(io.RawIOBase):
    """A part as a seekable binary file; its name is the suffix alone, so that no library takes a name for a URL."""

    def __init__(self, part: Part):
        """Opens the file. Raises OSError."""
        super().__init__()
        suffix = part.path.suffix.lower()
        self.name = "sound" + (suffix if suffix.isascii() else "")
        self.size = part.end - part.start
        self._part, self._position = part, 0
        self._file = part.path.open("rb")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read, from the start of the part."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as `io.IOBase.seek`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer) -> int:
        """Fill a buffer, less of it at the end. Raises OSError."""
        count = min(len(buffer), self.size - self._position)
        if count <= 0:  # damaged files send readers beyond all bounds
            return 0
        self._file.seek(self._part.start + self._position)
        data = bytearray(self._file.read(count))
        for offset, patch in self._part.patches:
            begin, end = max(offset, self._position), min(offset + len(patch), self._position + len(data))
            if begin < end:
                data[begin - self._position : end - self._position] = patch[begin - offset : end - offset]
        memoryview(buffer).cast("B")[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file beneath too."""
        if not self.closed:
            self._file.close()
        super().close()


def whole(path: str | os.PathLike) -> Part:
    """A file as one part, as it is. Raises OSError."""
    return Part(Path(path), 0, os.path.getsize(path))


def parts(path: Path) -> list[Part]:
    """The files that a file was joined from, in order; one of them where it was not joined. Raises OSError."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        starts = _starts(file, end)
        return [
            Part(path, a, b, _corrections(file, a, b)) for a, b in zip(starts, [*starts[1:], end], strict=True) if a < b
        ]


def _starts(file: BinaryIO, end: int) -> list[int]:
    first = _id3(file)  # a tag before the file proper
    head = _at(file, first, HEADER)
    if head[4:8] == b"ftyp":
        return [0, *(at for at in _boxes(file, first, end) if at > first)]
    for mark, header in _MARKS:
        if header.match(head):
            found = [at for at in _find(file, mark, first) if header.match(_at(file, at, HEADER))]
            if mark.startswith(b"OggS"):
                found = _first_pages(file, found)
            return [0, *(at for at in found if at > first)]
    return [0]


def _id3(file: BinaryIO) -> int:
    head = _at(file, 0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:]:  # seven bits each
        size = size << 7 | byte & 0x7F
    return 10 + size


def _find(file: BinaryIO, mark: bytes, start: int) -> Iterator[int]:
    """Where some bytes occur, from `start` on."""
    file.seek(start)
    kept, base = b"", start
    places: list[int] = []
    while block := file.read(CHUNK):
        text, at = kept + block, -1
        while (at := text.find(mark, at + 1)) >= 0:
            places.append(base + at)
        kept = text[len(text) - len(mark) + 1 :]
        base += len(text) - len(kept)
    yield from places


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Where `ftyp` boxes begin at the top level of an MP4 file."""
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", _at(file, start, 8))
        if kind == b"ftyp":
            yield start
        if size == 1 and len(wide := _at(file, start + 8, 8)) == 8:
            size = int.from_bytes(wide, "big")
        if size < 8:
            return
        start += size


def _first_pages(file: BinaryIO, pages: list[int]) -> list[int]:
    """Of the first pages of Ogg streams, those that no other first page precedes directly: there a chain goes on."""
    behind, kept = -1, []
    for page in pages:
        if page != behind:
            kept.append(page)
        segments = _at(file, page + 26, 1)[0]
        behind = page + 27 + segments + sum(_at(file, page + 27, segments))
    return kept


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """How a format lays out its chunks: sizes of the file's header, an identifier and a length, and what they mean."""

    first: int  # offset of the first chunk
    name: int  # bytes of an identifier
    length: str  # of the struct module
    samples: bytes  # how the identifier of the chunk with the samples begins
    inclusive: bool = False  # a length counts the chunk's header
    align: int = 2

    @property
    def header(self) -> int:
        return self.name + struct.calcsize(self.length)


_LAYOUTS = {
    b"RIFF": _Chunks(12, 4, "<I", b"data"),
    b"RIFX": _Chunks(12, 4, ">I", b"data"),
    b"RF64": _Chunks(12, 4, "<I", b"data"),
    b"BW64": _Chunks(12, 4, "<I", b"data"),
    b"FORM": _Chunks(12, 4, ">I", b"SSND"),
    b"riff": _Chunks(40, 16, "<Q", b"data\xf3\xac\xd3\x11", inclusive=True, align=8),
    b"caff": _Chunks(8, 4, ">Q", b"data", align=1),
}


def _corrections(file: BinaryIO, start: int, end: int) -> tuple[tuple[int, bytes], ...]:
    """Patches of the header where it misstates how many bytes of samples there are."""
    head = _at(file, start, 64)
    if re.match(_AU, head, re.DOTALL):
        return ((8, struct.pack(">I", min(end - start - int.from_bytes(head[4:8], "big"), 0xFFFFFFFE))),)
    layout = _LAYOUTS.get(head[:4])
    if layout is None or head[8:12] == b"AVI ":
        return ()
    wide = 0  # where RF64 keeps the real length of the samples
    at = start + layout.first
    while at < end and (chunk := _chunk(file, at, layout)) is not None:
        name, size = chunk
        if name == b"ds64":
            wide = at + 8 + 8
        if name.startswith(layout.samples):
            break
        at += layout.header + size + -size % layout.align
    else:
        return ()
    body = at + layout.header
    if wide and size == 0xFFFFFFFF:
        size = int.from_bytes(_at(file, wide, 8), "little")
    if _is_right(file, body, size, end, layout):
        return ()
    size = end - body
    whole = _pack(layout, end - start if layout.inclusive else end - start - 8)
    patches = [(at - start + layout.name, _pack(layout, size + layout.header * layout.inclusive))]
    if layout.first > layout.name + struct.calcsize(layout.length):  # CAF has no length of the whole
        patches.append((layout.name, whole))
    if wide:
        patches += [(wide - start, struct.pack("<Q", size)), (wide - start - 8, struct.pack("<Q", end - start - 8))]
    return tuple(patches)


def _pack(layout: _Chunks, size: int) -> bytes:
    return struct.pack(layout.length, min(size, 0xFFFFFFFF) if layout.length.endswith("I") else size)


def _chunk(file: BinaryIO, at: int, layout: _Chunks) -> tuple[bytes, int] | None:
    """Identifier of a chunk and length of its body; None where there is no room for either."""
    header = _at(file, at, layout.header)
    if len(header) < layout.header:
        return None
    (size,) = struct.unpack(layout.length, header[layout.name :])
    return header[: layout.name], max(0, size - layout.header * layout.inclusive)


def _is_right(file: BinaryIO, body: int, size: int, end: int, layout: _Chunks) -> bool:
    """Whether a length leads to the end, or through chunks to the end."""
    if body + size > end:
        return False
    for pad in (-size % layout.align, 0):
        at = body + size + pad
        while at + layout.header <= end:
            if end - at <= 128 and _at(file, at, 3) == b"TAG":  # of MP3 players, outside all chunks
                return True
            name, length = _chunk(file, at, layout) or (b"", 0)
            if not re.fullmatch(rb"[ -~]{4}", name[:4]) or (at + layout.header + length > end and name not in _TAIL):
                break
            at += layout.header + length + -length % layout.align
        else:
            return True
    return False


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)
