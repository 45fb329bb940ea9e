"""JPEG of a picture."""

import cv2
import numpy as np


def encode_picture(frame: np.ndarray) -> bytes:
    """An RGB picture as JPEG, quality 95, without chroma subsampling."""
    done, data = cv2.imencode(
        ".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    )
    return data.tobytes()
