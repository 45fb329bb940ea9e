"""A second, independent judge: MediaPipe's Face Landmarker on the same frames.

It was trained by others on real faces and reads 52 ARKit blend shapes and a head transform off a picture (Grishchenko
et al. 2020, "Attention Mesh"; Blendshapes V2, 2023); VASA-1 section 4 too judges with networks it did not train. Needs
the file `face_landmarker.task`; nothing is downloaded here. Its shapes are scores, not angles, so they are compared by
correlation only.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from vasa_jax.faces.landmarks import MODEL_FILE, Face, Landmarker

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
    return ""


def read(model: str | Path, frames: UInt8[np.ndarray, "t h w 3"]) -> Landmarks:
    """Ask the Face Landmarker about each frame on its own.

    Args:
        model: the `.task` file.
        frames: square RGB pictures; sides below `SIDE` are enlarged.

    Returns:
        Scores in the project's conventions: "left" is the viewer's left, angles as in `geometry.rotation`.
    """
    rows = []
    with Landmarker(model) as landmarker:
        for frame in frames:
            side = max(SIDE, frame.shape[0])
            picture = np.array(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
            faces = landmarker.find(picture)
            rows.append(_row(faces[0]) if faces else np.full(8, np.nan))
    table = np.stack(rows)
    return Landmarks(np.isfinite(table[:, 0]), table[:, 0], table[:, 1:3], table[:, 3:5], table[:, 5:8])


def _row(face: Face) -> Float[np.ndarray, " 8"]:
    shape = face.shapes
    # The shapes call "left" the person's left, which is the viewer's right.
    right = shape["eyeLookOutLeft"] + shape["eyeLookInRight"] - shape["eyeLookInLeft"] - shape["eyeLookOutRight"]
    up = shape["eyeLookUpLeft"] + shape["eyeLookUpRight"] - shape["eyeLookDownLeft"] - shape["eyeLookDownRight"]
    eyes = (shape["eyeBlinkRight"], shape["eyeBlinkLeft"], 0.5 * right, 0.5 * up)
    return np.array([shape["jawOpen"], *eyes, *face.rotation])
