"""Motion on disk: what was generated can be stored, edited and replayed.

A `.npz` file with the leaves of a pair's motion by name, time first, raw units, float32; `kind` of the pair, and `fps`
= 25. Of the VASA pair that is `pose` (t, 6) and `dynamics` (t, z), see `arrays.Motion`. Pickled objects in such a file
are refused, so opening one runs no code.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vasa_jax.arrays import FPS
from vasa_jax.checkpoint import flatten
from vasa_jax.errors import UserError
from vasa_jax.files import check_target, whole_file

LARGEST = 500_000_000
"""Bytes of all arrays of a file: half an hour of motion is 25 MB."""


def save_motion(path: str | os.PathLike, kind: str, motions: Iterable[Any]) -> None:
    """Writes stretches of motion of one pair as one file; it appears only when complete.

    Raises:
        UserError: another suffix than .npz, or a folder that cannot be written.
    """
    target = check_motion_target(path)
    joined = jax.tree.map(lambda *parts: np.concatenate(parts).astype(np.float32), *motions)
    with whole_file(target) as hidden:
        np.savez(hidden, **flatten(joined), kind=np.str_(kind), fps=np.int32(FPS))


def check_motion_target(path: str | os.PathLike) -> Path:
    """The path itself, after checks before any work. Raises UserError as `save_motion`."""
    target = check_target(path)
    if target.suffix.lower() != ".npz":
        raise UserError(f"{target} must end in .npz to hold motion")
    return target


def load_motion(path: str | os.PathLike, kind: str, shapes: Any) -> Any:
    """Reads a motion file.

    Args:
        path: the file.
        kind: of the pair that is to replay it.
        shapes: the pair's motion, with the shape of one frame for each leaf.

    Returns:
        The motion, float32 leaves (t, ...), t >= 1.

    Raises:
        UserError: no such file, not a motion file, one of another kind or size, another frame rate, or NaN in it.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such motion file")
    names = list(flatten(_frame(shapes)))
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise UserError("it holds a single array")
        with opened as file, np.errstate(all="ignore"):  # of shapes that nobody wrote
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > LARGEST:
                raise UserError(f"{path} holds more than {LARGEST // 1_000_000} MB; cut its motion into pieces")
            there = file["kind"].item() if "kind" in file else None
            if "kind" in file and there != kind:
                raise UserError(f"{path} holds motion of a model of kind {str(there)[:40]!r}; this one is {kind!r}")
            arrays: dict[str, Any] = {name: file[name] for name in (*names, "kind", "fps")}
    except Exception as error:  # noqa: BLE001  (a broken file may fail in any way)
        if isinstance(error, UserError) and str(path) in str(error):
            raise
        needs = ", ".join((*names, "kind", "fps"))
        raise UserError(f"{path} is not a motion file of this model: it needs the arrays {needs}") from error
    if arrays["fps"].size != 1 or arrays["fps"].item() != FPS:
        raise UserError(f"{path} has {str(arrays['fps'])[:40]} frames a second; resample its motion to {FPS}")
    structure = jax.tree.structure(_frame(shapes))
    return check_motion(jax.tree.unflatten(structure, [arrays[name] for name in names]), shapes, str(path))


def check_motion(motion: Any, shapes: Any, name: str = "the motion") -> Any:
    """The motion as float32. Raises UserError where `load_motion` does."""
    wanted = flatten(_frame(shapes))
    if jax.tree.structure(motion) != jax.tree.structure(_frame(shapes)):
        raise UserError(f"{name} is no motion of this model, which needs {', '.join(wanted)}")
    leaves = {part: np.asarray(leaf) for part, leaf in flatten(motion).items()}
    first = next(iter(leaves.values()))
    frames = first.shape[0] if first.ndim else 0
    if not frames or any(leaf.shape != (frames, *wanted[part].shape) for part, leaf in leaves.items()):
        here = " and ".join(f"{part} {leaf.shape}" for part, leaf in leaves.items())
        need = " and ".join(str(("t", *leaf.shape)).replace("'t'", "t") for leaf in wanted.values())
        raise UserError(f"{name} has {here}; this model needs {need}")
    if any(leaf.dtype.kind not in "fiu" for leaf in leaves.values()):
        raise UserError(f"{name} holds {' and '.join(str(leaf.dtype) for leaf in leaves.values())}; it must be numbers")
    with np.errstate(over="ignore"):
        motion = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), motion)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(motion)):
        raise UserError(f"{name} holds NaN or infinite numbers")
    return motion


def record(motions: Iterable[Any], into: list[Any]) -> Iterator[Any]:
    """Passes motions through and keeps them in a list."""
    for motion in motions:
        into.append(motion)
        yield motion


def _frame(shapes: Any) -> Any:
    """One frame's motion, whose leaves are arrays without content."""
    return type(shapes)(*(jax.ShapeDtypeStruct(shape, "float32") for shape in shapes))
