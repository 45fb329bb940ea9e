"""Do lips and voice belong together, and by how many frames are they apart? SyncNet's scores of a clip.

The face is cropped as its authors do (Chung and Zisserman 2016): with s half the larger side of the face, medians over
13 frames, from 1 s above the middle to 1.8 s below it and 1.4 s to both sides, at 224 pixels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage
from jaxtyping import Float, Float32

from vasa_jax.pretrained.syncnet import SyncNet, find_offset, mfcc, windows

SIDE = 224
GREY = 110
"""Level beyond the edge of the picture."""
MEDIAN = 13
BATCH = 16
"""Windows that go through the network together."""

Judge = Callable[
    [Sequence[bytes], Float[np.ndarray, "t 4"], Float32[np.ndarray, " n"]],
    tuple[float, int],
]
"""JPEG pictures, bounds of the face in them and sound to S_C and the frames by which the sound must be shifted."""


def open_judge(path: Path) -> Judge:
    """SyncNet with the weights of a file, `syncnet_v2.model` or another with the same names.

    Raises:
        UserError: a file that cannot be read or holds another network.
    """
    import jax

    from vasa_jax.convert import convert
    from vasa_jax.convert.source import read_tensors

    variables = convert("syncnet", read_tensors(path))
    lips = jax.jit(lambda frames: SyncNet().apply(variables, frames, method="lips"))
    hear = jax.jit(lambda sound: SyncNet().apply(variables, sound, method="audio"))

    def judge(
        pictures: Sequence[bytes], bounds: Float[np.ndarray, "t 4"], audio: Float32[np.ndarray, " n"]
    ) -> tuple[float, int]:
        faces = np.stack([_face(picture, box) for picture, box in zip(pictures, _steady(bounds), strict=True)])
        seen, heard = windows(faces, mfcc(audio * 32768), len(audio))
        features = [
            np.concatenate([np.asarray(tower(_padded(part[i : i + BATCH])))[: len(part) - i] for i in starts])
            for tower, part in ((lips, seen), (hear, heard))
            for starts in [range(0, len(part), BATCH)]
        ]
        found = find_offset(features[0], features[1])
        return found.confidence, found.offset

    return judge


def _padded(part: np.ndarray) -> Float32[np.ndarray, "n ..."]:
    """A batch of one compiled shape."""
    return np.concatenate([part, np.repeat(part[-1:], BATCH - len(part), 0)]).astype(np.float32)


def _steady(bounds: Float[np.ndarray, "t 4"]) -> Float[np.ndarray, "t 3"]:
    """Middle and half of the larger side, medians over time."""
    left, top, right, bottom = bounds.T
    rows = np.stack([(left + right) / 2, (top + bottom) / 2, np.maximum(right - left, bottom - top) / 2], 1)
    return scipy.ndimage.median_filter(rows, (MEDIAN, 1), mode="nearest")


def _face(picture: bytes, place: Float[np.ndarray, "3"]) -> np.ndarray:
    x, y, half = place
    scale = SIDE / (2.8 * half)
    moved = np.array([[scale, 0.0, -scale * (x - 1.4 * half)], [0.0, scale, -scale * (y - half)]])
    colours = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert colours is not None
    return cv2.warpAffine(
        colours, moved, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(GREY,) * 3
    )
