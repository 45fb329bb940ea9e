"""Pictures as JPEG: quality 95, no chroma subsampling, so that lips and lids keep their colours.

Pillow encodes faster, OpenCV decodes faster (docs/performance.md); both wrap libjpeg-turbo and agree to the bit.
"""

import io

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vasa_jax.errors import UserError

JPEG_QUALITY = 95
LARGEST = 40_000_000
"""Pixels of the largest picture that is decoded."""


def encode_picture(frame: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """An RGB picture as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def decode_picture(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """What a JPEG shows, as RGB, whatever a camera noted about which side is up; raises UserError for bytes that are
    none, or too many pixels to be a frame."""
    height, width = picture_size(data)
    if height * width > LARGEST:
        raise UserError(f"a picture of {width}x{height} pixels is no frame; at most {LARGEST // 1_000_000} million")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise UserError(f"{len(data)} bytes are no picture: {error.err or error}") from error
    if picture is None:
        raise UserError(f"{len(data)} bytes are no whole picture; write JPEG with encode_picture")
    return picture


def reduce_picture(picture: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """A square picture at a side that divides its own: each pixel is the rounded mean of those that it covers."""
    if picture.shape[0] == size:
        return picture
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))


def picture_size(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG, from its first bytes; raises UserError for bytes that begin none."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{len(data)} bytes are no JPEG picture; write frames with encode_picture") from error
