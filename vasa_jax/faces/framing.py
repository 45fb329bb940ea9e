"""Which part of a photo a model sees, and what to tell the user about it.

The largest face decides, or the one that the user chooses, or a box that the user gives. Without a face, or without a
detector on this machine, it is the largest square of the picture: the upper one of a tall picture, since people stand
with their heads up, and the central one of a wide one.
"""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vasa_jax.errors import UserError
from vasa_jax.faces.apart import find_apart
from vasa_jax.faces.box import MIN_SIDE, Box, check_box, largest_square, write_box
from vasa_jax.faces.landmarks import Face, NoDetectorError

SMALL_FACE = 96
"""Pixels; a smaller face has little to show."""
PROFILE = np.radians(60)
"""Yaw from which on half of the face is hidden."""
OUTSIDE = 0.1
"""Share of a box outside of the photo that is worth a word."""
LISTED = 8
"""Faces whose places are told at most."""

Choice = int | tuple[float, float]
"""Of several faces the N-th largest, counted from 1, or the one at a place (x, y) in pixels of the photo."""


class View(NamedTuple):
    """box: what the model sees. face: whose it is, or None. remarks: what to tell the user, a line each."""

    box: Box
    face: Face | None
    remarks: tuple[str, ...]


def parse_face(text: str) -> Choice:
    """A choice as a user writes it: "2" or "x,y".

    Raises:
        UserError: for anything else.
    """
    try:
        if "," not in text:
            number = int(text)
            if number < 1:
                raise ValueError
            return number
        x, y = (float(part) for part in text.split(","))
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError
    except ValueError:
        raise UserError(
            f"--face {text!r} names no face: give 1 for the largest, 2 for the next, or x,y in pixels of the picture"
        ) from None
    return x, y


def start_looking(
    photo: UInt8[np.ndarray, "h w 3"],
    frame: Callable[[Face], Box],
    name: str = "the picture",
    choose: Choice | None = None,
    box: Box | None = None,
    *,
    needed: bool = False,
) -> Future[View]:
    """`look` in the background, since the detector takes its time to start; its result raises what `look` raises."""
    return ThreadPoolExecutor(1).submit(look, photo, frame, name, choose, box, needed=needed)


def look(
    photo: UInt8[np.ndarray, "h w 3"],
    frame: Callable[[Face], Box],
    name: str = "the picture",
    choose: Choice | None = None,
    box: Box | None = None,
    *,
    needed: bool = False,
) -> View:
    """Find the part of a photo that is shown.

    Args:
        photo: RGB.
        frame: the box that a model wants for a face.
        name: what remarks call the photo.
        choose: which of several faces; None is the largest.
        box: what is shown, whatever the faces.
        needed: whether the model wants the landmarks of a face: the largest square is then no way out, and of a given
            box the largest face is found whose centre lies in it.

    Raises:
        UserError: a photo that is too small, a face that is not there, both a face and a box, a box outside of the
            photo, or no face (or no detector) where one is needed.
    """
    height, width = photo.shape[:2]
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{name} is {width}x{height} pixels, too small to show a face; give at least {MIN_SIDE:g}x{MIN_SIDE:g}"
        )
    if box is not None:
        if choose is not None:
            raise UserError("--face and --box both say what is shown; give one of them")
        return _given(photo, check_box(box, width, height), name, needed)
    try:
        faces = find_apart(photo)
        missing = f"no face was found in {name}"
    except NoDetectorError as error:
        faces, missing = [], f"faces are not looked for: {error}"
    if not faces:
        if needed or choose is not None:
            raise UserError(f"{missing}; frame it by hand with --box x,y,size")
        box = largest_square(width, height)
        part = "upper square" if height > width else "central square" if width > height else "whole"
        return View(box, None, (f"{missing}; its {part} is used (--box {write_box(box)})",))
    face = faces[0] if choose is None else _chosen(faces, choose, name, width, height)
    remarks = []
    if len(faces) > 1 and choose is None:
        others = ", ".join(f"--face {i} {_place(other)}" for i, other in enumerate(faces[1 : LISTED + 1], 2))
        remarks.append(f"{name} shows {len(faces)} faces; the largest is used, the others are {others}")
    return _view(frame(face), face, remarks, name, width, height)


def _given(photo: np.ndarray, box: Box, name: str, needed: bool) -> View:
    height, width = photo.shape[:2]
    if not needed:
        return _view(box, None, [], name, width, height)
    try:
        inside = (face for face in find_apart(photo) if (abs(box.seen(_centre(face)[None], 1) - 0.5) <= 0.5).all())
        face = next(inside, None)
    except NoDetectorError:  # the box says all that is needed
        face = None
    return _view(box, face, [], name, width, height)


def _view(box: Box, face: Face | None, remarks: list[str], name: str, width: int, height: int) -> View:
    if face is not None and face.size < SMALL_FACE:
        remarks.append(
            f"the face in {name} is only {face.size:.0f} pixels large; a closer picture gives a better video"
        )
    if face is not None and abs(face.rotation[1]) > PROFILE:
        remarks.append(
            f"the face in {name} is turned by {np.degrees(face.rotation[1]):.0f} degrees; half of it is hidden"
        )
    if (share := box.outside(width, height)) > OUTSIDE:
        remarks.append(f"{share:.0%} of what is shown lies outside of {name}, whose edge is repeated there")
    return View(box, face, tuple(remarks))


def _chosen(faces: list[Face], choose: Choice, name: str, width: int, height: int) -> Face:
    if isinstance(choose, int):
        if choose <= len(faces):
            return faces[choose - 1]
        count = "one face" if len(faces) == 1 else f"{len(faces)} faces"
        places = ", ".join(f"{i} {_place(face)}" for i, face in enumerate(faces[:LISTED], 1))
        raise UserError(f"--face {choose} is not there: {name} shows {count}: {places}")
    x, y = choose
    if not (0 <= x <= width and 0 <= y <= height):
        raise UserError(f"--face {x:g},{y:g} lies outside of {name}, which is {width}x{height} pixels")

    def apart(face: Face) -> tuple[float, float]:
        left, top, right, bottom = face.bounds
        return (
            math.hypot(max(left - x, x - right, 0), max(top - y, y - bottom, 0)),
            float(np.hypot(*(_centre(face) - choose))),
        )

    return min(faces, key=apart)


def _centre(face: Face) -> np.ndarray:
    left, top, right, bottom = face.bounds
    return np.array([(left + right) / 2, (top + bottom) / 2])


def _place(face: Face) -> str:
    x, y = _centre(face)
    return f"around ({x:.0f}, {y:.0f})"
