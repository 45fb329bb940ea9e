"""Driving motion from LivePortrait's motion files: what the motion extractor said of a real video, frame by frame.

A file is a mapping with `n_frames`, `output_fps` and `motion`, a list of mappings `R` (older: `R_d`), `exp`, `scale`,
`t`, each with a leading axis of one; some also hold the eye and lip ratios of every frame. `convert.torch_file` opens
such pickles without running anything.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.errors import UserError
from vasa_jax.liveportrait.keypoints import HeadMotion


class DrivingMotion(NamedTuple):
    """A sequence of t frames.

    motion: leading axis t. rate: frames a second. eyes: (t, 2) eye ratios, or None. lips: (t, 1) lip ratios, or None.
    """

    motion: HeadMotion
    rate: float
    eyes: np.ndarray | None
    lips: np.ndarray | None


_SHAPES = {"rotation": (3, 3), "expression": (21, 3), "scale": (1,), "translation": (3,)}
_NAMES = {"rotation": ("R", "R_d"), "expression": ("exp",), "scale": ("scale",), "translation": ("t",)}
_RATIOS = {"eyes": (("c_eyes_lst", "c_d_eyes_lst"), 2), "lips": (("c_lip_lst", "c_d_lip_lst"), 1)}


def read_driving(content: Mapping[str, Any]) -> DrivingMotion:
    """The motion of a file's content.

    Raises:
        UserError: a field that is missing, of another shape or not finite, no frames, or another number of them than
            the file says.
    """
    for name in ("n_frames", "output_fps", "motion"):
        if name not in content:
            raise UserError(f"this is no motion file: it has no {name!r}")
    frames = content["motion"]
    if len(frames) != content["n_frames"] or not frames:
        raise UserError(f"the motion file says {content['n_frames']} frames and holds {len(frames)}")
    parts = {field: _stack(frames, field) for field in _SHAPES}
    ratios = {field: _ratios(content, *known, len(frames)) for field, known in _RATIOS.items()}
    return DrivingMotion(HeadMotion(**parts), float(content["output_fps"]), **ratios)


def _stack(frames: list[Mapping[str, Any]], field: str) -> np.ndarray:
    rows = []
    for index, frame in enumerate(frames):
        name = next((name for name in _NAMES[field] if name in frame), None)
        if name is None:
            raise UserError(f"frame {index} of the motion file has no {_NAMES[field][0]!r}")
        value = np.asarray(frame[name], np.float32)
        if value.shape != (1, *_SHAPES[field]) or not np.isfinite(value).all():
            raise UserError(
                f"{name!r} of frame {index} of the motion file must be finite numbers of shape {(1, *_SHAPES[field])}, "
                f"not of {value.shape}"
            )
        rows.append(value[0])
    return np.stack(rows)


def _ratios(content: Mapping[str, Any], names: tuple[str, ...], width: int, count: int) -> np.ndarray | None:
    name = next((name for name in names if name in content), None)
    if name is None:
        return None
    value = np.asarray(content[name], np.float32).reshape(-1, width)
    if len(value) != count:
        raise UserError(f"{name!r} of the motion file has {len(value)} frames, the motion {count}")
    return value
