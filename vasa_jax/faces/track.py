"""The face of a video, frame by frame, and one box for all of it.

A driving video must show the head move, so its crop stands still: the mean of the boxes that the face of each frame
would have. The first face is the largest of its frame; after that it is the one nearest to where it was. Where none is
found it stays as it was last found (at the beginning, as it is first found).
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vasa_jax.errors import UserError
from vasa_jax.faces.apart import LandmarkerApart
from vasa_jax.faces.box import Box, crop
from vasa_jax.faces.landmarks import Face
from vasa_jax.media.video import read_rate, read_video

LEAST_FOUND = 0.5
"""Share of the frames in which a face must be found."""


class Track(NamedTuple):
    """One face in t frames.

    box: one for all frames. faces: of each frame. found: whether the frame itself shows it.
    """

    box: Box
    faces: tuple[Face, ...]
    found: Bool[np.ndarray, " t"]

    def scores(self, shape: str) -> Float[np.ndarray, " t"]:
        """Of one of the 52 blend shapes, as "jawOpen", frame by frame, 0 to 1. Raises KeyError for another name."""
        return np.array([face.shapes[shape] for face in self.faces])


class FaceVideo(NamedTuple):
    """The face of a video file. crops: what the track's box holds, frame by frame. rate: frames a second."""

    crops: Iterator[UInt8[np.ndarray, "n n 3"]]
    rate: float
    track: Track


def track_video(path: str | os.PathLike, frame: Callable[[Face], Box], size: int) -> FaceVideo:
    """Follow a face through a video file and cut it out; the file is read twice.

    Args:
        path: of the video.
        frame: the box that a model wants for a face.
        size: side of the crops in pixels.

    Raises:
        UserError: as `read_video` and `track`.
    """
    rate, name = read_rate(path), os.fspath(path)
    followed = track(read_video(path), frame, name)
    crops = (crop(picture, followed.box, size) for picture in read_video(path))
    return FaceVideo(crops, float(rate), followed)


def track(frames: Iterable[UInt8[np.ndarray, "h w 3"]], frame: Callable[[Face], Box], name: str) -> Track:
    """Follow a face through a video.

    One process looks for faces in all frames, one frame at a time, so a video of any length needs little memory. To cut
    the crops, read the frames again: `faces.box.crop(picture, track.box, size)`.

    Args:
        frames: RGB, of one size.
        frame: the box that a model wants for a face.
        name: what messages call the video.

    Raises:
        UserError: no frame, no face, or a face in less than half of the frames.
        NoDetectorError: where the detector does not work on this machine.
    """
    faces: list[Face | None] = []
    last = None
    with LandmarkerApart() as landmarker:
        for picture in frames:
            found = landmarker.find(picture)
            if found:
                last = found[0] if last is None else min(found, key=lambda face, near=last: _apart(face, near))
            faces.append(last if found else None)
    there = [face for face in faces if face is not None]
    if not faces:
        raise UserError(f"{name} holds no frames; give a video")
    if not there:
        raise UserError(f"no face was found in any of the {len(faces)} frames of {name}; give a video of a face")
    if len(there) < LEAST_FOUND * len(faces):
        raise UserError(
            f"a face was found in {len(there)} of the {len(faces)} frames of {name} only; cut it to those with a face"
        )
    held, now = [], there[0]
    for face in faces:
        now = face or now
        held.append(now)
    return Track(mean_box([frame(face) for face in there]), tuple(held), np.array([face is not None for face in faces]))


def mean_box(boxes: list[Box]) -> Box:
    """Of centres, sides and directions."""
    x, y, side = (float(np.mean([getattr(box, field) for box in boxes])) for field in ("x", "y", "side"))
    sine, cosine = (np.mean(part(np.radians([box.degrees for box in boxes]))) for part in (np.sin, np.cos))
    return Box(x, y, side, math.degrees(math.atan2(sine, cosine)))


def _apart(face: Face, other: Face) -> float:
    return float(np.hypot(*(face.points.mean(0) - other.points.mean(0))))
