"""Which part of a photo a model sees, and what to tell the user about it.

The largest face decides. Without a face, or without a detector on this machine, it is the largest square of the
picture: the upper one of a tall picture, since people stand with their heads up, and the central one of a wide one.
"""

import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vasa_jax.faces.box import Box, Framing, frame_face
from vasa_jax.faces.landmarks import Face, NoDetectorError

SMALL_FACE = 96
"""Pixels; a smaller face has little to show."""
PROFILE = np.radians(60)
"""Yaw from which on half of the face is hidden."""
OUTSIDE = 0.1
"""Share of a box outside of the photo that is worth a word."""


class View(NamedTuple):
    """box: what the model sees. face: whose it is, or None. remarks: what to tell the user, a line each."""

    box: Box
    face: Face | None
    remarks: tuple[str, ...]


def start_looking(photo: UInt8[np.ndarray, "h w 3"], framing: Framing, name: str) -> Future[View]:
    """`look` in the background, since the detector takes its time to start; for models that frame faces by their eyes
    and mouth."""
    return ThreadPoolExecutor(1).submit(look, photo, functools.partial(frame_face, framing=framing), name)


def find_apart(photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
    """The faces of a photo, the largest first, found by `python -m vasa_jax.faces` in a process of its own.

    Raises:
        NoDetectorError: where the detector does not work on this machine.
    """
    given = io.BytesIO()
    np.save(given, photo)
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", "vasa_jax.faces", "-"]
    done = subprocess.run(command, input=given.getvalue(), capture_output=True, env=os.environ | {"PYTHONPATH": paths})
    if done.returncode:
        told = done.stderr.decode(errors="replace").splitlines()
        raise NoDetectorError(told[-1].removeprefix("faces: error: ") if told else f"exit code {done.returncode}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [Face(np.array(row["points"]), row["shapes"], np.array(row["transform"])) for row in rows]


def look(photo: UInt8[np.ndarray, "h w 3"], frame: Callable[[Face], Box], name: str = "the picture") -> View:
    """Find the face of a photo.

    Args:
        photo: RGB.
        frame: the box that a model wants for a face.
        name: what remarks call the photo.
    """
    height, width = photo.shape[:2]
    try:
        faces = find_apart(photo)
        missing = f"no face was found in {name}"
    except NoDetectorError as error:
        faces, missing = [], f"faces are not looked for: {error}"
    if not faces:
        side = min(width, height)
        box = Box(width / 2, side / 2, side)
        part = "upper square" if height > width else "central square" if width > height else "whole"
        return View(box, None, (f"{missing}; its {part} is used ({_written(box)})",))
    face = faces[0]
    box = frame(face)
    remarks = []
    if len(faces) > 1:
        others = ", ".join(_written(frame(other)) for other in faces[1:4])
        remarks.append(f"{name} shows {len(faces)} faces; the largest is used, the others would be {others}")
    if face.size < SMALL_FACE:
        remarks.append(
            f"the face in {name} is only {face.size:.0f} pixels large; a closer picture gives a better video"
        )
    if abs(face.rotation[1]) > PROFILE:
        remarks.append(
            f"the face in {name} is turned by {np.degrees(face.rotation[1]):.0f} degrees; half of it is hidden"
        )
    if (share := box.outside(width, height)) > OUTSIDE:
        remarks.append(f"{share:.0%} of what is shown lies outside of {name}, whose edge is repeated there")
    return View(box, face, tuple(remarks))


def _written(box: Box) -> str:
    """A box as --crop takes it."""
    return f"--crop {round(box.x - box.side / 2)},{round(box.y - box.side / 2)},{round(box.side)}"
