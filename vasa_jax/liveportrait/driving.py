"""Driving motion from LivePortrait's motion files: what the motion extractor said of a real video, frame by frame.

A file is a mapping with `n_frames`, `output_fps` and `motion`, a list of mappings `R` (older: `R_d`), `exp`, `scale`,
`t`, each with a leading axis of one; some also hold the eye and lip ratios of every frame. `convert.torch_file` opens
such pickles without running anything.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.errors import UserError, reason
from vasa_jax.liveportrait.keypoints import HeadMotion


class DrivingMotion(NamedTuple):
    """A sequence of t frames.

    motion: leading axis t. rate: frames a second. eyes: (t, 2) eye ratios, or None. lips: (t, 1) lip ratios, or None.
    """

    motion: HeadMotion
    rate: float
    eyes: np.ndarray | None
    lips: np.ndarray | None


SLOWEST, FASTEST = 1, 1000
"""Frames a second of motion that is read."""
_SHAPES = {"rotation": (3, 3), "expression": (21, 3), "scale": (1,), "translation": (3,)}
_NAMES = {"rotation": ("R", "R_d"), "expression": ("exp",), "scale": ("scale",), "translation": ("t",)}
_RATIOS = {"eyes": (("c_eyes_lst", "c_d_eyes_lst"), 2), "lips": (("c_lip_lst", "c_d_lip_lst"), 1)}


def read_driving(content: Any) -> DrivingMotion:
    """The motion of a file's content, which should be a table (see the module).

    Raises:
        UserError: a field that is missing, of another shape or not finite, no frames, another number of them than the
            file says, or no rate.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"this is no motion file: it holds a {type(content).__name__} and no table")
    for name in ("n_frames", "output_fps", "motion"):
        if name not in content:
            raise UserError(f"this is no motion file: it has no {name!r}")
    frames, count, rate = content["motion"], content["n_frames"], content["output_fps"]
    if not isinstance(frames, list | tuple) or not all(isinstance(frame, Mapping) for frame in frames):
        raise UserError("'motion' of the motion file is no list of tables, one for each frame")
    if not frames or np.ndim(count) or len(frames) != count:
        raise UserError(f"the motion file says {str(count)[:40]} frames and holds {len(frames)}")
    if not isinstance(rate, int | float | np.number) or not SLOWEST <= rate <= FASTEST:
        raise UserError(f"the motion file says {str(rate)[:40]} frames a second; give {SLOWEST} to {FASTEST}")
    parts = {field: _stack(frames, field) for field in _SHAPES}
    ratios = {field: _ratios(content, *known, len(frames)) for field, known in _RATIOS.items()}
    return DrivingMotion(HeadMotion(**parts), float(rate), **ratios)


def _stack(frames: Sequence[Mapping[str, Any]], field: str) -> np.ndarray:
    rows = []
    for index, frame in enumerate(frames):
        name = next((name for name in _NAMES[field] if name in frame), None)
        if name is None:
            raise UserError(f"frame {index} of the motion file has no {_NAMES[field][0]!r}")
        value = _numbers(frame[name], name)
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
    value = _numbers(content[name], name)
    if value.size != count * width or not np.isfinite(value).all():
        raise UserError(
            f"{name!r} of the motion file must be finite numbers, {width} for each of its {count} frames, not of "
            f"{value.shape}"
        )
    return value.reshape(count, width)


def _numbers(value: Any, name: str) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # what is no finite number then is refused as such
            return np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name!r} of the motion file is no array of numbers: {reason(error)[:100]}") from error
