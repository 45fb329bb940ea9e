"""Any picture as one square of the model's size.

The network reads one portrait as float32 RGB in [0, 1] (VASA-1 section 3.2, the source image). Pictures come in every
mode: palettes, 16-bit greys, CMYK from print shops, transparency, and phones that store a rotation beside the pixels.
Here each becomes 8-bit RGB, upright, over a neutral grey where it is transparent; then the central square, or the one
that was asked for, is resized with an antialiasing filter.
"""

import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from vasa_jax.errors import UserError

ImageSource = str | os.PathLike | Image.Image | np.ndarray
Crop = tuple[int, int, int]

MIN_SIDE = 16  # pixels; less than this cannot show a face
NEUTRAL = (128, 128, 128)  # what shows through transparent pixels


def load_image(source: ImageSource, size: int, crop: Crop | None = None) -> Float[np.ndarray, "{size} {size} 3"]:
    """The picture as one square, float32 RGB in [0, 1].

    Args:
        source: a path, a PIL image, or an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4): uint8, uint16, or float in
            [0, 1].
        size: side of the result in pixels.
        crop: x and y of the upper left corner and the side of a square in pixels of the upright picture; None is the
            central square.

    Raises:
        UserError: no such file, not a picture, one smaller than 16 pixels, NaN in it, or a crop that leaves the
            picture.
    """
    name = str(source) if isinstance(source, str | os.PathLike) else "the image"
    picture = open_image(source)
    left, top, side = _square(picture, name, crop)
    resized = picture.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return np.asarray(resized, np.float32) / 255


def open_image(source: ImageSource) -> Image.Image:
    """The picture as upright 8-bit RGB (see `to_rgb`), fully read; of an animation the first picture.

    Raises:
        UserError: as `load_image`, the size apart.
    """
    if isinstance(source, Image.Image):
        return to_rgb(source)
    if isinstance(source, np.ndarray):
        return to_rgb(_from_array(source))
    path = Path(source)
    if not path.exists():
        raise UserError(f"{path}: no such image file")
    if not path.is_file():
        raise UserError(f"{path} is not a file; name an image file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's hints about odd but readable files
        try:
            with Image.open(path) as picture:
                picture.load()
                return to_rgb(picture, str(path))
        except Image.DecompressionBombError as error:
            raise UserError(f"{path} is not a usable image: it is larger than Pillow allows") from error
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path} is not a usable image: Pillow cannot read it") from error


def to_rgb(picture: Image.Image, name: str = "the image") -> Image.Image:
    """Upright 8-bit RGB: EXIF rotation applied, 16-bit and float levels scaled, transparency over neutral grey.

    Args:
        picture: an image of any Pillow mode.
        name: what error messages call it.

    Raises:
        UserError: float levels that are NaN, infinite or not in [0, 1].
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16") or picture.mode == "I":
        levels = np.asarray(picture, np.float64) / 257
        picture = Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))
    elif picture.mode == "F":
        picture = _from_array(np.asarray(picture), name)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        background = Image.new("RGBA", picture.size, (*NEUTRAL, 255))
        picture = Image.alpha_composite(background, picture)
    return picture.convert("RGB")


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


def _square(picture: Image.Image, name: str, crop: Crop | None) -> Crop:
    width, height = picture.size
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{name} is {width}x{height} pixels, too small to show a face; give at least {MIN_SIDE}x{MIN_SIDE}"
        )
    if crop is None:
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side
    left, top, side = crop
    if side < MIN_SIDE:
        raise UserError(
            f"the crop {left},{top},{side} is too small to show a face; its side must be at least {MIN_SIDE}"
        )
    if left < 0 or top < 0 or left + side > width or top + side > height:
        raise UserError(f"the crop {left},{top},{side} leaves the picture {name}, which is {width}x{height} pixels")
    return crop


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
