"""Pictures: every mode and wrapping, damaged ones, bombs, loops, and files of other kinds with a picture's name."""

import functools
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, PngImagePlugin

from benchmarks.hostile.case import Box, Case, damaged, door, number, pick, zeros
from vasa_jax.media.image import open_photo, over_grey

pillow_heif.register_heif_opener()
SIZE = 40, 48
MODES = {
    "png": ("RGB", "RGBA", "P", "L", "LA", "I;16", "1"),
    "jpeg": ("RGB", "L", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "gif": ("P", "L"),
    "tiff": ("RGB", "RGBA", "CMYK", "I;16", "I", "F", "1", "LAB", "YCbCr"),
    "bmp": ("RGB", "P", "1"),
    "ico": ("RGBA",),
    "ppm": ("RGB", "L", "1", "I"),
    "tga": ("RGB", "RGBA"),
    "jpeg2000": ("RGB", "RGBA", "L", "I;16"),
    "heif": ("RGB", "RGBA"),
    "avif": ("RGB", "RGBA"),
    "pcx": ("RGB", "L"),
    "sgi": ("RGB",),
    "dds": ("RGBA",),
    "im": ("RGB", "F"),
    "icns": ("RGBA",),
    "eps": ("RGB",),
    "pdf": ("RGB",),
    "xbm": ("1",),
    "spider": ("F",),
    "msp": ("1",),
    "qoi": ("RGB",),
}
SUFFIXES = ("png", "jpg", "jpeg", "webp", "heic", "tif", "bmp", "gif", "dng", "PNG", "")


def picture(mode: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    if mode in ("I;16", "I"):
        return Image.fromarray(noise[..., 0].astype(np.uint16) * 257).convert(mode)
    if mode == "F":
        return Image.fromarray(noise[..., 0].astype(np.float32) / 255)
    return Image.fromarray(noise[..., :3]).convert("P" if mode == "P" else mode)


@functools.cache
def encoded(form: str, mode: str) -> bytes:
    """That picture in a format; a PNG one where the format has no such writer here."""
    file = io.BytesIO()
    try:
        picture(mode).save(file, form)
    except (OSError, ValueError, KeyError):
        return encoded("png", "RGB")
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int = 8, colour: int = 0, interlace: int = 0, more: bytes = b"") -> bytes:
    """A black PNG of any size in a few kB: the same compressed block again and again."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    need = (1 + (width * depth * channels + 7) // 8) * height
    need = min(need, 3 << 30)
    data = b"\x78\xda" + zeros(need) + struct.pack(">I", need % 65521 << 16 | 1)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def exif(rng: np.random.Generator) -> bytes:
    """EXIF whose directories lead back to themselves, or to nowhere."""
    tags = (0x0112, 0x8769, 0x8825, 0xA005, 0x014A, 0x011A, 0x9286, 0x927C, 0x0201)
    count = int(rng.integers(1, 8))
    entries = b"".join(
        struct.pack(
            "<HHII", pick(rng, tags), int(rng.integers(0, 15)), number(rng) % 2**32, pick(rng, (8, 6, 0, 2**32 - 1))
        )
        for _ in range(count)
    )
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 8)


def scans(rng: np.random.Generator) -> bytes:
    """A progressive JPEG whose last scan comes a few thousand times."""
    file = io.BytesIO()
    Image.new("L", (3000, 3000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * int(rng.integers(500, 5000)) + data[-2:]


def animated(rng: np.random.Generator) -> tuple[bytes, str]:
    """An animation of many pictures."""
    form = pick(rng, ("gif", "png", "webp", "tiff"))
    file = io.BytesIO()
    many = [picture("RGB", (8, 8))] * int(rng.integers(2, 100))
    many[0].save(file, form, save_all=True, append_images=many[1:])
    return file.getvalue(), f"an animation in {form}"


def bomb(rng: np.random.Generator) -> tuple[bytes, str]:
    """Small files of very large pictures, below and above what Pillow takes for honest."""
    side = pick(rng, (9000, 9400, 13000, 13300, 30_000, 65_535))
    depth, colour = pick(rng, ((1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (8, 4), (8, 6), (16, 6)))
    way = rng.random()
    if way < 0.6:
        interlace = int(rng.random() < 0.2)
        return png(side, side, depth, colour, interlace), f"PNG, {side}x{side}, {depth} bits, colours {colour}"
    if way < 0.7:
        return png(2**31 - 1, 1, depth, colour), "PNG, two thousand million wide"
    if way < 0.8:
        body = struct.pack("<BBBBIIHH", 0, 0, 0, 0, 0, 0, 1, 32)[:8] + struct.pack(
            "<II", len(inner := png(side, side)), 22
        )
        return b"\0\0\1\0\1\0" + body + inner, f"ICO of a PNG of {side}x{side}"
    if way < 0.9:
        return b"P6\n%d %d\n255\n" % (side, side) + bytes(1000), f"PPM, {side}x{side}, cut"
    file = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(file, "TIFF", compression="group4")
    return file.getvalue(), "TIFF, 13000x13000, group 4"


def made(rng: np.random.Generator) -> tuple[bytes, str]:
    """Pictures that somebody put together by hand."""
    way = pick(rng, ("exif", "exif png", "text", "profile", "empty", "scans", "animated", "bomb", "bomb", "size", "16"))
    if way == "exif":
        found = exif(rng)
        data = encoded("jpeg", "RGB")
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(found) + 2) + found + data[2:], "EXIF in a loop"
    if way == "exif png":
        return png(40, 48, more=chunk(b"eXIf", exif(rng)[6:])), "EXIF in a loop in a PNG"
    packed = b"\x78\xda" + zeros(200_000_000) + struct.pack(">I", 200_000_000 % 65521 << 16 | 1)
    if way == "text":
        return png(40, 48, more=chunk(b"zTXt", b"a\0\0" + packed) * int(rng.integers(1, 4))), "200 MB of packed text"
    if way == "profile":
        return png(40, 48, more=chunk(b"iCCP", b"a\0\0" + packed)), "a colour profile of 200 MB"
    if way == "empty":
        return bytes(pick(rng, (0, 1, 8, 1000))), "zeros"
    if way == "scans":
        return scans(rng), "JPEG of thousands of scans"
    if way == "animated":
        return animated(rng)
    if way == "size":
        return png(number(rng) % 2**32, number(rng) % 2**32, int(rng.integers(0, 20)), int(rng.integers(0, 8))), "sizes"
    if way == "16":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("a\nb", "\x1b[31m", zip=True)
        file = io.BytesIO()
        picture("I;16").save(file, "PNG", pnginfo=info)
        return file.getvalue(), "16 bits"
    return bomb(rng)


def case(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A picture that is going to be a portrait."""
    del seeds
    suffix = pick(rng, SUFFIXES)
    if rng.random() < 0.3:
        data, what = made(rng)
    else:
        form = pick(rng, tuple(MODES))
        mode = pick(rng, MODES[form])
        data, what = encoded(form, mode), f"{form} {mode}"
        if rng.random() < 0.75:
            data, how = damaged(rng, data)
            what = f"{what}, {how}"
    path = box.write(f"photo.{suffix}".rstrip("."), data)

    def read() -> None:
        photo = over_grey(open_photo(path))
        assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3 and photo.size

    flags = (
        "infer.py",
        "--image",
        str(path),
        "--audio",
        "SOUND",
        "--model",
        "MODEL",
        "--out",
        str(box.output / "a.mp4"),
    )
    return Case(what, door("infer", read), command=flags, named=path.name)
