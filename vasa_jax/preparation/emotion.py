"""The emotion of a clip by HSEmotion's network (Savchenko 2022), an ONNX file that a user may have.

Its models of eight classes give logits in the order of `vasa_jax.arrays.EMOTIONS` for a face, RGB at the size that the
file names, normalised as ImageNet's pictures are. Some pictures of a clip are shown and their probabilities averaged.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32

from vasa_jax.arrays import EMOTIONS
from vasa_jax.errors import UserError, reason

MEAN, SPREAD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
SIDE = 224
"""Pixels, where the file leaves the size open."""
SHOWN = 8
"""Pictures of a clip."""

Judge = Callable[[Sequence[bytes], Float[np.ndarray, "t 4"]], Float32[np.ndarray, " 8"]]
"""JPEG pictures and bounds of the face in them to coefficients that sum to 1."""


def open_judge(path: Path) -> Judge:
    """The network of a file.

    Raises:
        UserError: ONNX Runtime is missing, or the file is no such network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("emotion needs onnxruntime; install vasa-jax[prepare]") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a worker a core
    try:
        session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors have no common class)
        raise UserError(f"{path} is not a model that ONNX Runtime can read ({reason(error)[:160]})") from error
    given = session.get_inputs()[0]
    height, width = (length if isinstance(length, int) else SIDE for length in given.shape[-2:])
    if len(given.shape) != 4:
        raise UserError(f"{path} takes an input of shape {given.shape}; HSEmotion's take pictures (n, 3, h, w)")

    def judge(pictures: Sequence[bytes], bounds: Float[np.ndarray, "t 4"]) -> Float32[np.ndarray, " 8"]:
        total = np.zeros(len(EMOTIONS))
        shown = np.unique(np.linspace(0, len(pictures) - 1, SHOWN).round().astype(int))
        for i in shown:
            logits = session.run(None, {given.name: _face(pictures[i], bounds[i], width, height)})[0].reshape(-1)
            if len(logits) < len(EMOTIONS):
                raise UserError(f"{path} knows {len(logits)} emotions; take one of HSEmotion's models with eight")
            some = np.exp(logits[: len(EMOTIONS)].astype(np.float64) - logits[: len(EMOTIONS)].max())
            total += some / some.sum() / len(shown)
        return total.astype(np.float32)

    return judge


def _face(picture: bytes, bounds: Float[np.ndarray, "4"], width: int, height: int) -> Float32[np.ndarray, "1 3 h w"]:
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    left, top, right, bottom = np.clip(np.round(bounds), 0, [decoded.shape[1], decoded.shape[0]] * 2).astype(int)
    face = decoded[top : max(bottom, top + 1), left : max(right, left + 1), ::-1]
    shown = cv2.resize(np.ascontiguousarray(face), (width, height), interpolation=cv2.INTER_AREA)
    return ((shown.astype(np.float32) / 255 - MEAN) / SPREAD).transpose(2, 0, 1)[None]
