"""Faces of a picture: 478 landmarks each, by MediaPipe's Face Landmarker (Grishchenko et al. 2020, "Attention Mesh").

The detector before the mesh looks at the whole picture at 128 pixels, so it misses the small faces of full figures;
where it finds nothing, overlapping squares of the picture are searched too. The model file is not part of the package:
it comes from an assets folder, from the user's cache, or once from Google's public store, and is checked by hash.
"""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import whole_file

MODEL_FILE = "models/face_landmarker.task"
"""Where an assets folder keeps the model."""
MODEL_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_BYTES = 3_758_596
MOST_FACES = 16
"""Faces of a picture that are looked for."""
LEFT_EYE = (33, 159, 133, 145)
"""Outer corner, upper lid, inner corner, lower lid of the eye on the left side of the picture."""
RIGHT_EYE = (362, 386, 263, 374)
"""Inner corner, upper lid, outer corner, lower lid of the eye on the right side of the picture."""
MOUTH = (61, 291)
"""Outer corners of the mouth, left and right in the picture."""


class NoDetectorError(UserError):
    """The face detector cannot work on this machine; the message says why and what to do."""


class Face(NamedTuple):
    """One face.

    points: (478, 2) x and y in pixels of the picture, whose upper left corner is (0, 0): a pixel's centre is at .5.
    shapes: name of each of the 52 blend shapes (as "jawOpen") to its score, 0 to 1.
    transform: (4, 4) of the canonical face to the camera: columns, x right, y up, z to the camera, in centimetres.
    """

    points: Float[np.ndarray, "478 2"]
    shapes: dict[str, float]
    transform: Float[np.ndarray, "4 4"]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the points, in pixels."""
        (left, top), (right, bottom) = self.points.min(0), self.points.max(0)
        return float(left), float(top), float(right), float(bottom)

    @property
    def size(self) -> float:
        """The larger side of the bounds, in pixels."""
        left, top, right, bottom = self.bounds
        return max(right - left, bottom - top)

    @property
    def rotation(self) -> tuple[float, float, float]:
        """Pitch, yaw and roll in radians, as in `geometry.rotation`."""
        return angles(self.transform)


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


def find_model() -> Path:
    """The model file: of the assets folder that VASA_JAX_ASSETS names, of the user's cache, or downloaded to it once.

    Raises:
        NoDetectorError: where it is in neither and cannot be downloaded, or has another hash.
    """
    assets = os.environ.get("VASA_JAX_ASSETS")
    kept = Path.home() / ".cache" / "vasa-jax" / MODEL_FILE
    for path in (Path(assets) / MODEL_FILE if assets else kept, kept):
        if path.is_file():
            return _checked(path)
    way = f"fetch {MODEL_URL} by hand and put it there"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(MODEL_URL, timeout=5) as answer:
            content = answer.read(2 * MODEL_BYTES)
    except (OSError, urllib.error.URLError) as error:
        raise NoDetectorError(
            f"the face model is not at {kept} and cannot be fetched ({reason(error)}); {way}"
        ) from error
    if hashlib.sha256(content).hexdigest() != MODEL_SHA256:
        raise NoDetectorError(f"the face model that came for {kept} has another hash; {way}")
    with whole_file(kept) as hidden:
        hidden.write_bytes(content)
    return kept


def _checked(path: Path) -> Path:
    with refusals("read", path):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != MODEL_SHA256:
        raise NoDetectorError(
            f"{path} is not the face model that this version knows (SHA-256 {digest[:16]}); remove it"
        )
    return path


class Landmarker:
    """Finds faces; a context manager."""

    def __init__(self, model: str | os.PathLike | None = None):
        """Open the model: a `.task` file, or None for `find_model`.

        Raises:
            NoDetectorError: where MediaPipe or its model is missing, or cannot start on this machine.
        """
        path = find_model() if model is None else Path(model)
        try:
            import mediapipe
            from mediapipe.tasks.python import vision
            from mediapipe.tasks.python.core.base_options import BaseOptions

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(path)),
                num_faces=MOST_FACES,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise NoDetectorError(
                f"the face detector cannot start ({reason(error)[:160]}); install mediapipe, and libEGL and libGLESv2 "
                "of the system, or say where the face is"
            ) from error
        self._mediapipe = mediapipe

    def __enter__(self) -> "Landmarker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the detector."""
        self._landmarker.close()

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The faces of an RGB picture, the largest first; empty where there are none."""
        height, width = picture.shape[:2]
        sides = {max(height, width), min(height, width), min(height, width) // 2}
        for side in sorted(sides, reverse=True):
            faces: list[Face] = []
            for left, top, right, bottom in _squares(width, height, side):
                corner = np.array([left, top], np.float64)
                for face in self.detect(picture[top:bottom, left:right]):
                    moved = face._replace(points=face.points + corner)
                    if not any(_same(moved, other) for other in faces):
                        faces.append(moved)
            if faces:
                return sorted(faces, key=lambda face: -face.size)
        return []

    def detect(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The faces that one look at the whole picture finds, in the detector's order."""
        height, width = picture.shape[:2]
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        result = self._landmarker.detect(image)
        parts = zip(result.face_landmarks, result.face_blendshapes, result.facial_transformation_matrixes, strict=True)
        return [
            Face(
                np.array([(point.x * width, point.y * height) for point in points]),
                {shape.category_name: float(shape.score) for shape in shapes},
                np.asarray(transform, np.float64),
            )
            for points, shapes, transform in parts
        ]


def _squares(width: int, height: int, side: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right and bottom of overlapping squares that cover a picture, cut where they leave it."""
    for top in _starts(height, side):
        for left in _starts(width, side):
            yield left, top, min(width, left + side), min(height, top + side)


def _starts(length: int, side: int) -> list[int]:
    slack = max(0, length - side)
    return np.linspace(0, slack, 1 + -(-2 * slack // side)).astype(int).tolist()


def _same(a: Face, b: Face) -> bool:
    """Whether two findings are one face: their centres lie closer than half the smaller one."""
    apart = np.abs(a.points.mean(0) - b.points.mean(0)).max()
    return bool(apart < 0.5 * min(a.size, b.size))
