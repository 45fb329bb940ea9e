"""Any picture as 8-bit RGB, upright, with what is transparent in it.

Pictures come in every mode and wrapping: palettes, 16-bit greys, CMYK from print shops, transparency, telephones' HEIC
(read by pillow-heif) and AVIF, a rotation stored beside the pixels. A model sees what is transparent as a neutral grey.
Of what is stored beside the pixels only the EXIF orientation counts; the rest is never a reason to refuse a picture.
"""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from vasa_jax.errors import UserError, reason, refusals

ImageSource = str | os.PathLike | Image.Image | np.ndarray

NEUTRAL = (128, 128, 128)  # what shows through transparent pixels
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each EXIF orientation upright."""
STUMBLES = (
    OSError,
    EOFError,
    MemoryError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What Pillow and its plugins raise for files that they cannot follow."""
LARGEST = 120_000_000
"""Pixels of the largest picture that is read; it takes 1.7 GB."""
SCANS = 64
"""Passes over the pixels in the longest JPEG that is read; encoders write a dozen, and each costs a picture's time."""
BAND = 256
"""Rows that are worked out at a time."""
PNG = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")
"""Brands of HEIF files; those of AVIF begin otherwise, and Pillow knows them."""
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")
FOREIGN = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"%PDF", "a PDF document"),
    (b"<svg", "an SVG drawing"),
    (b"%!PS", "a PostScript program"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript program"),
    (b"version https://git-lfs", "a Git LFS pointer, and the picture itself was not fetched (git lfs pull)"),
)
"""How files begin that people take for pictures and that are not read here, and what they are."""


def open_photo(source: ImageSource) -> UInt8[np.ndarray, "h w c"]:
    """The picture upright and fully read, with its transparency: c is 4 where a part of it is transparent, else 3.

    Colours are those of the file, whatever their transparency; `over_grey` is what a model sees.

    Args:
        source: a path, a PIL image, or an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4): uint8, uint16, or float in
            [0, 1]. Of an animation the first picture is taken.

    Raises:
        UserError: no such file, not a picture, NaN in it, colours that Pillow cannot convert, or more than 120 million
            pixels.
    """
    return np.asarray(_open(source))


def over_grey(photo: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """A photo of `open_photo` over neutral grey where it is transparent; the same array where it has no such part."""
    if photo.shape[2] == 3:
        return photo
    picture = Image.fromarray(photo)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, (*NEUTRAL, 255)), picture).convert("RGB"))


def _open(source: ImageSource) -> Image.Image:
    """Upright 8-bit RGB, or RGBA where a part is transparent."""
    if isinstance(source, Image.Image):
        with refusals("read", "the image", *STUMBLES):  # Pillow reads the pixels when they are first needed
            return _to_8_bits(source)
    if isinstance(source, np.ndarray):
        return _to_8_bits(_from_array(source))
    path = Path(source)
    if not os.path.exists(path):  # False, too, for names that no file can have
        raise UserError(f"{path}: no such image file")
    if not path.is_file():
        raise UserError(f"{path} is not a file; name an image file")
    _prepare(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's hints about odd but readable files
        try:
            return _decode(path, path)
        except STUMBLES as error:
            if isinstance(error, UserError):
                raise
            pixels = _pixels_alone(path)
            if pixels is None:
                raise _unusable(path, error) from error
        try:
            return _decode(io.BytesIO(pixels), path)
        except STUMBLES as error:
            raise _unusable(path, error) from error


def _to_8_bits(picture: Image.Image, name: str = "the image") -> Image.Image:
    """A picture of any mode as `_open` gives it: EXIF orientation applied, 16-bit and float levels scaled."""
    picture = _upright(picture)
    if picture.mode.startswith("I;16") or picture.mode == "I":
        picture = _in_bands(picture, lambda band: np.clip(np.round(np.asarray(band, np.float64) / 257), 0, 255))
    elif picture.mode == "F":
        picture = _in_bands(picture, lambda band: np.asarray(_from_array(np.asarray(band), name)))
    try:
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if picture.getchannel("A").getextrema() != (255, 255):
                return picture
        return picture.convert("RGB")
    except ValueError as error:
        raise UserError(f"{name} has colours of mode {picture.mode}, which Pillow cannot turn into RGB") from error


def _in_bands(picture: Image.Image, levels: Callable[[Image.Image], np.ndarray]) -> Image.Image:
    """A grey picture by its levels of 0 to 255, worked out some rows at a time, since wide numbers need much memory."""
    found = np.empty((picture.height, picture.width), np.uint8)
    for top in range(0, picture.height, BAND):
        bottom = min(top + BAND, picture.height)
        found[top:bottom] = levels(picture.crop((0, top, picture.width, bottom)))
    return Image.fromarray(found)


def _unusable(path: Path, error: BaseException) -> UserError:
    why = "its format is unknown" if isinstance(error, UnidentifiedImageError) else reason(error)
    return UserError(f"{path} is not a usable image: {why}; save the picture as PNG or JPEG")


def _prepare(path: Path) -> None:
    """Refuse what looks like a picture to people alone, and fetch the decoder of HEIC where it is needed."""
    with refusals("read", path), path.open("rb") as file:
        head = file.read(256)
    known = [what for start, what in FOREIGN if head.startswith(start)]
    if path.suffix.lower() in RAW_SUFFIXES:
        known = ["a raw file of a camera, not yet developed"]
    if known:
        raise UserError(f"{path} is not a usable image: it is {known[0]}; save the picture as PNG or JPEG")
    if head.startswith(b"\xff\xd8"):
        with refusals("read", path):
            scans = path.read_bytes().count(b"\xff\xda")
        if scans > SCANS:
            raise UserError(f"{path} is not a usable image: its JPEG has {scans} scans; save the picture anew")
    if head[4:8] == b"ftyp" and head[8:12] in HEIC and b"avif" not in head[12:64]:
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise UserError(
                f"{path} is a HEIC picture and pillow-heif, which reads those, is not installed; "
                "install it (pip install pillow-heif), or save the picture as JPEG"
            ) from error
        register_heif_opener()


def _decode(file: Path | io.BytesIO, path: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            _check_size(picture, path)
            picture.load()
            _check_size(picture, path)  # again, since some formats hold another picture inside
            return _to_8_bits(picture, str(path))
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is too large to read: {reason(error)}; make the picture smaller") from error


def _check_size(picture: Image.Image, path: Path) -> None:
    if picture.width * picture.height > LARGEST:
        raise UserError(
            f"{path} is too large to read: it has {picture.width}x{picture.height} pixels, more than "
            f"{LARGEST // 1_000_000} million; make the picture smaller"
        )


def _pixels_alone(path: Path) -> bytes | None:
    """A PNG file without what is stored beside the pixels, orientation apart; None for other files."""
    with refusals("read", path), path.open("rb") as file:
        if file.read(len(PNG)) != PNG:
            return None
        data = file.read()
    kept, at = [PNG], 0
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk, at = data[at : at + 12 + length], at + 12 + length
        sound = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        if kind in PNG_PIXELS or (kind == b"eXIf" and sound):
            kept.append(chunk)
    return b"".join(kept)


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF asks; EXIF that cannot be read asks for nothing."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except STUMBLES:
        return picture
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def _from_array(array: np.ndarray, name: str = "the image array") -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise UserError(f"{name} has shape {array.shape}; give (height, width) or (height, width, 3 or 4)")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise UserError(f"{name} holds NaN or infinite values; repair the picture first")
        if array.min() < 0 or array.max() > 1:
            raise UserError(
                f"{name} has levels from {array.min():g} to {array.max():g}; float pictures must lie in [0, 1]"
            )
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype == np.uint16:
        array = np.round(array / 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UserError(f"{name} has dtype {array.dtype}; give uint8, uint16, or floats in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(array))
