"""A second, independent judge: MediaPipe's Face Landmarker on the same frames.

It was trained by others on real faces and reads 52 ARKit blend shapes and a head transform off a picture (Grishchenko
et al. 2020, "Attention Mesh"; Blendshapes V2, 2023); VASA-1 section 4 too judges with networks it did not train. Needs
the extra `[faces]` and the file `face_landmarker.task`; nothing is downloaded here. Its shapes are scores, not angles,
so they are compared by correlation only.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

MODEL_FILE = "models/face_landmarker.task"
"""Where an assets folder keeps the model."""
SIDE = 384
"""Pixels that small frames are enlarged to: the detector was made for photographs."""


class Landmarks(NamedTuple):
    """Scores per frame; NaN where no face was found.

    found: (t,). jaw_open: (t,) 0..1. blink: (t, 2), viewer's left and right eye, 1 closed.
    gaze: (t, 2): to the viewer's right, and up, in the head, -1..1. rotation: (t, 3): pitch, yaw, roll in radians.
    """

    found: Bool[np.ndarray, " t"]
    jaw_open: Float[np.ndarray, " t"]
    blink: Float[np.ndarray, "t 2"]
    gaze: Float[np.ndarray, "t 2"]
    rotation: Float[np.ndarray, "t 3"]


def why_unavailable(assets: str | Path | None) -> str:
    """Why this judge cannot sit, in a few words; "" if it can.

    Args:
        assets: the folder that holds `MODEL_FILE`, or None where there is no such folder.
    """
    if not assets:
        return "VASA_JAX_ASSETS is not set"
    if not (Path(assets) / MODEL_FILE).is_file():
        return f"{MODEL_FILE} is not in {assets}"
    if importlib.util.find_spec("mediapipe") is None:
        return "mediapipe is not installed (extra [faces])"
    return ""


def read(model: str | Path, frames: UInt8[np.ndarray, "t h w 3"]) -> Landmarks:
    """Ask the Face Landmarker about each frame on its own.

    Args:
        model: the `.task` file.
        frames: square RGB pictures; sides below `SIDE` are enlarged.

    Returns:
        Scores in the project's conventions: "left" is the viewer's left, angles as in `geometry.rotation`.
    """
    import mediapipe
    from mediapipe.tasks.python import vision
    from mediapipe.tasks.python.core.base_options import BaseOptions

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    rows = []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for frame in frames:
            side = max(SIDE, frame.shape[0])
            picture = np.array(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
            result = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture))
            if not result.face_blendshapes:
                rows.append(np.full(8, np.nan))
                continue
            shape = {category.category_name: category.score for category in result.face_blendshapes[0]}
            # The shapes call "left" the person's left, which is the viewer's right.
            right = (
                shape["eyeLookOutLeft"] + shape["eyeLookInRight"] - shape["eyeLookInLeft"] - shape["eyeLookOutRight"]
            )
            up = shape["eyeLookUpLeft"] + shape["eyeLookUpRight"] - shape["eyeLookDownLeft"] - shape["eyeLookDownRight"]
            eyes = (shape["eyeBlinkRight"], shape["eyeBlinkLeft"], 0.5 * right, 0.5 * up)
            rows.append(np.array([shape["jawOpen"], *eyes, *angles(result.facial_transformation_matrixes[0])]))
    table = np.stack(rows)
    return Landmarks(np.isfinite(table[:, 0]), table[:, 0], table[:, 1:3], table[:, 3:5], table[:, 5:8])


def angles(matrix: Float[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    """Pitch, yaw, roll [rad] of MediaPipe's transform: columns, x right, y up, z to the camera, any scale."""
    turn = np.asarray(matrix, np.float64)[:3, :3]
    turn = turn / np.cbrt(np.linalg.det(turn))
    flip = np.diag([1.0, -1.0, -1.0])  # to y down, z into the picture
    turn = flip @ turn @ flip  # Rz(roll) Ry(yaw) Rx(pitch)
    return (
        float(np.arctan2(turn[2, 1], turn[2, 2])),
        float(-np.arcsin(np.clip(turn[2, 0], -1.0, 1.0))),
        float(np.arctan2(turn[1, 0], turn[0, 0])),
    )
