"""HEIC files as telephones write them: tiles that make a picture (ISO/IEC 23008-12, items of type `grid`)."""

import io
import struct
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image


def write_grid(path: Path, picture: np.ndarray, size: tuple[int, int], turn: int = 0) -> None:
    """Write a picture of four tiles.

    Args:
        path: of the file.
        picture: (2 n, 2 n, 3) uint8, of which the left upper part is shown.
        size: width and height of what is shown.
        turn: quarter turns against the clock that a reader has to make.
    """
    n = len(picture) // 2
    tiles = [_coded(picture[y : y + n, x : x + n]) for y in (0, n) for x in (0, n)]
    layout = struct.pack(">BBBBHH", 0, 0, 1, 1, *size)
    properties = [tiles[0][0], _extent(n, n), _extent(*size), _box(b"irot", bytes([turn]))]
    owners = b"".join(struct.pack(">HBBB", item, 2, 0x81, 2) for item in (1, 2, 3, 4))
    owners += struct.pack(">HBBB", 5, 2, 3, 0x84)
    names = [_full(b"infe", 2, struct.pack(">HH4sx", item, 0, b"hvc1")) for item in (1, 2, 3, 4)]
    names.append(_full(b"infe", 2, struct.pack(">HH4sx", 5, 0, b"grid")))
    start = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")

    def index(begin: int) -> bytes:
        places = b""
        for item, (_, data) in enumerate(tiles, 1):
            places += struct.pack(">HHHHII", item, 0, 0, 1, begin, len(data))
            begin += len(data)
        places += struct.pack(">HHHHII", 5, 1, 0, 1, 0, len(layout))
        return _full(
            b"meta",
            0,
            _full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            _full(b"pitm", 0, struct.pack(">H", 5)),
            _full(b"iinf", 0, struct.pack(">H", 5), *names),
            _full(b"iref", 0, _box(b"dimg", struct.pack(">HH4H", 5, 4, 1, 2, 3, 4))),
            _box(b"iprp", _box(b"ipco", *properties), _full(b"ipma", 0, struct.pack(">I", 5), owners)),
            _box(b"idat", layout),
            _full(b"iloc", 1, b"\x44\x00", struct.pack(">H", 5), places),
        )

    begin = len(start) + len(index(0)) + 8
    path.write_bytes(start + index(begin) + _box(b"mdat", *(data for _, data in tiles)))


def _coded(tile: np.ndarray) -> tuple[bytes, bytes]:
    """The decoder's settings (a box hvcC) and the data of one tile."""
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(tile)).save(file, quality=80)
    whole = file.getvalue()
    return _found(whole, b"meta", b"iprp", b"ipco", b"hvcC"), _found(whole, b"mdat")[8:]


def _found(data: bytes, kind: bytes, *inside: bytes) -> bytes:
    at = 0
    while True:
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name == kind:
            break
        at += length
    box = data[at : at + length]
    return _found(box[12 if kind == b"meta" else 8 :], *inside) if inside else box


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, version: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24), *parts)


def _extent(width: int, height: int) -> bytes:
    return _full(b"ispe", 0, struct.pack(">II", width, height))
