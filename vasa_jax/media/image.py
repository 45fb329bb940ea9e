"""Any picture as one square of the model's size.

The network reads one portrait as float32 RGB in [0, 1] (VASA-1 section 3.2, the source image). Pictures come in every
mode and wrapping: palettes, 16-bit greys, CMYK from print shops, transparency, telephones' HEIC (read by pillow-heif)
and AVIF, a rotation stored beside the pixels. Here each becomes 8-bit RGB, upright, over a neutral grey where it is
transparent; then a square of it is resized with an antialiasing filter. Of what is stored beside the pixels only the
EXIF orientation counts; the rest is never a reason to refuse a picture.
"""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from vasa_jax.errors import UserError, reason, refusals

ImageSource = str | os.PathLike | Image.Image | np.ndarray
Crop = tuple[int, int, int]

MIN_SIDE = 16  # pixels; less than this cannot show a face
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
    (b"version https://git-lfs", "a Git LFS pointer, and the picture itself was not fetched (git lfs pull)"),
)
"""How files begin that people take for pictures and that are not read here, and what they are."""


def load_image(source: ImageSource, size: int, crop: Crop | None = None) -> Float[np.ndarray, "{size} {size} 3"]:
    """The picture as one square, float32 RGB in [0, 1].

    Args:
        source: a path, a PIL image, or an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4): uint8, uint16, or float in
            [0, 1].
        size: side of the result in pixels.
        crop: x and y of the upper left corner and the side of a square in pixels of the upright picture; None is the
            square that `choose_square` takes: of a tall picture the upper one, of a wide one the central one.

    Raises:
        UserError: no such file, not a picture, one smaller than 16 pixels, NaN in it, or a crop that leaves the
            picture.
    """
    picture = open_image(source)
    left, top, side = choose_square(picture, crop, _name(source))
    resized = picture.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return np.asarray(resized, np.float32) / 255


def open_image(source: ImageSource) -> Image.Image:
    """The picture as upright 8-bit RGB, grey where it is transparent, fully read; of an animation the first picture.

    Raises:
        UserError: as `load_image`, the size apart; colours that Pillow cannot convert; or more pixels than it takes for
            honest (179 million).
    """
    return _over_grey(_open(source))


def open_photo(source: ImageSource) -> UInt8[np.ndarray, "h w c"]:
    """The picture upright and fully read, with its transparency: c is 4 where a part of it is transparent, else 3.

    Colours are those of the file, whatever their transparency; `over_grey` is what a model sees. Raises as
    `open_image`.
    """
    return np.asarray(_open(source))


def over_grey(photo: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """A photo of `open_photo` over neutral grey where it is transparent; the same array where it has no such part."""
    return photo if photo.shape[2] == 3 else np.asarray(_over_grey(Image.fromarray(photo)))


def choose_square(picture: Image.Image, crop: Crop | None = None, name: str = "the image") -> Crop:
    """The square of a picture to use, as x and y of its upper left corner and its side in pixels.

    Without a crop it is as large as the picture allows. People stand in pictures with their heads up, so it begins at
    the top of a tall one; in a wide one it is central.

    Raises:
        UserError: a picture or a crop smaller than 16 pixels, or a crop that leaves the picture.
    """
    width, height = picture.size
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{name} is {width}x{height} pixels, too small to show a face; give at least {MIN_SIDE}x{MIN_SIDE}"
        )
    if crop is None:
        side = min(width, height)
        return (width - side) // 2, 0, side
    left, top, side = crop
    if side < MIN_SIDE:
        raise UserError(
            f"the crop {left},{top},{side} is too small to show a face; its side must be at least {MIN_SIDE}"
        )
    if left < 0 or top < 0 or left + side > width or top + side > height:
        raise UserError(f"the crop {left},{top},{side} leaves the picture {name}, which is {width}x{height} pixels")
    return crop


def to_uint8(frames: Float[np.ndarray, "*b h w 3"]) -> np.ndarray:
    """Pictures in [0, 1] to uint8, rounded to the nearest level and clipped."""
    return np.clip(np.round(np.asarray(frames, np.float32) * 255), 0, 255).astype(np.uint8)


def resize_frame(frame: np.ndarray, size: int) -> np.ndarray:
    """A square uint8 frame (h, h, 3) at another side, (size, size, 3), with antialiasing;

    The same array where nothing changes.
    """
    if frame.shape[0] == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.LANCZOS))


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
        levels = np.asarray(picture, np.float64) / 257
        picture = Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))
    elif picture.mode == "F":
        picture = _from_array(np.asarray(picture), name)
    try:
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if picture.getchannel("A").getextrema() != (255, 255):
                return picture
        return picture.convert("RGB")
    except ValueError as error:
        raise UserError(f"{name} has colours of mode {picture.mode}, which Pillow cannot turn into RGB") from error


def _over_grey(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    background = Image.new("RGBA", picture.size, (*NEUTRAL, 255))
    return Image.alpha_composite(background, picture).convert("RGB")


def _name(source: ImageSource) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else "the image"


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
            picture.load()
            return _to_8_bits(picture, str(path))
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is too large to read: {reason(error)}; make the picture smaller") from error


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
