"""Motion on disk: what was generated can be stored, edited and replayed.

A `.npz` file with `pose` (t, 6) and `dynamics` (t, z), raw units as in `arrays.Motion`, float32, and `fps` = 25.
Pickled objects in such a file are refused, so opening one runs no code.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vasa_jax.arrays import FPS, POSE_DIM, Motion
from vasa_jax.errors import UserError
from vasa_jax.files import check_target, whole_file


def save_motion(path: str | os.PathLike, motions: Iterable[Motion]) -> None:
    """Writes stretches of motion, (t, 6) and (t, z) each, as one file; it appears only when complete.

    Raises:
        UserError: another suffix than .npz, or a folder that cannot be written.
    """
    target = check_motion_target(path)
    pose, dynamics = (np.concatenate(parts).astype(np.float32) for parts in zip(*motions, strict=True))
    with whole_file(target) as hidden:
        np.savez(hidden, pose=pose, dynamics=dynamics, fps=np.int32(FPS))


def check_motion_target(path: str | os.PathLike) -> Path:
    """The path itself, after checks before any work. Raises UserError as `save_motion`."""
    target = check_target(path)
    if target.suffix.lower() != ".npz":
        raise UserError(f"{target} must end in .npz to hold motion")
    return target


def load_motion(path: str | os.PathLike, dynamics_dim: int) -> Motion:
    """Reads a motion file of a model whose dynamics have `dynamics_dim` numbers: float32 (t, 6) and (t, z), t >= 1.

    Raises:
        UserError: no such file, not a motion file, another size, another frame rate, or NaN in it.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such motion file")
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise UserError("it holds a single array")
        with opened as file:
            arrays: dict[str, Any] = {name: file[name] for name in ("pose", "dynamics", "fps")}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a motion file: it needs the arrays pose, dynamics and fps") from error
    if arrays["fps"].size != 1 or arrays["fps"].item() != FPS:
        raise UserError(f"{path} has {arrays['fps']} frames a second; resample its motion to {FPS}")
    return check_motion(Motion(arrays["pose"], arrays["dynamics"]), dynamics_dim, str(path))


def check_motion(motion: Motion, dynamics_dim: int, name: str = "the motion") -> Motion:
    """The motion as float32. Raises UserError where `load_motion` does."""
    pose, dynamics = (np.asarray(part) for part in motion)
    frames = pose.shape[0] if pose.ndim else 0
    if not frames or pose.shape != (frames, POSE_DIM) or dynamics.shape != (frames, dynamics_dim):
        raise UserError(
            f"{name} has pose {pose.shape} and dynamics {dynamics.shape}; "
            f"this model needs (t, {POSE_DIM}) and (t, {dynamics_dim})"
        )
    if pose.dtype.kind not in "fiu" or dynamics.dtype.kind not in "fiu":
        raise UserError(f"{name} holds {pose.dtype} and {dynamics.dtype}; it must hold numbers")
    if not (np.isfinite(pose).all() and np.isfinite(dynamics).all()):
        raise UserError(f"{name} holds NaN or infinite numbers")
    return jax.tree.map(lambda part: np.asarray(part, np.float32), motion)


def record(motions: Iterable[Motion], into: list[Motion]) -> Iterator[Motion]:
    """Passes motions through and keeps them in a list."""
    for motion in motions:
        into.append(motion)
        yield motion
