"""Motion that drives a portrait from elsewhere: a video of a face, a stored motion, LivePortrait's motion.

Everything is brought to 25 frames a second by interpolation between neighbours.
"""

import itertools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from vasa_jax.arrays import FPS
from vasa_jax.errors import UserError
from vasa_jax.faces.track import track_video
from vasa_jax.inference.motion_file import check_motion, load_motion
from vasa_jax.inference.pair import Motion, Pair
from vasa_jax.liveportrait.driving import FASTEST, SLOWEST, DrivingMotion

Driver = Motion | DrivingMotion | str | os.PathLike
"""Motion of a pair, LivePortrait's motion, or a file: a video, or a stored motion (.npz)."""
BATCH = 8
"""Frames whose motion is read by one call."""


def read_driver(pair: Pair, driver: Driver, part: str = "driving") -> Motion:
    """Motion of a driver for a pair, 25 frames a second; `part` says what of it is wanted ("pose_from": the head's).

    Raises:
        UserError: no such file, a video without a face, or motion that this pair cannot read.
    """
    if isinstance(driver, DrivingMotion):
        return resample(pair.follow(driver, part == "pose_from"), driver.rate)
    if not isinstance(driver, str | os.PathLike):
        return check_motion(driver, pair.shapes)
    if Path(driver).suffix.lower() == ".npz":
        return load_motion(driver, pair.kind, pair.shapes)
    if Path(driver).suffix.lower() == ".pkl":
        raise UserError(f"{driver} is a pickle; open it with vasa_jax.convert.torch_file and liveportrait.driving")
    video = track_video(driver, pair.watch, pair.face.sees)
    stretches = []
    while crops := list(itertools.islice(video.crops, BATCH)):
        stretches.append(_seen(pair, crops))
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *stretches)
    return resample(check_motion(joined, pair.shapes, str(driver)), video.rate)


def _seen(pair: Pair, crops: list[UInt8[np.ndarray, "n n 3"]]) -> Motion:
    """Motion of up to `BATCH` pictures, read in a batch of one size."""
    pictures = np.stack(crops + crops[-1:] * (BATCH - len(crops))).astype(np.float32) / 255
    motion = jax.device_get(pair.face.motion(jnp.asarray(pictures)))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(crops)], motion)


def resample(motion: Motion, rate: float) -> Motion:
    """Motion of `rate` frames a second at 25, each number between its neighbours'; as long, to half a frame.

    Raises UserError for a rate that no motion has, since it would make a second of an hour, or an hour of a second.
    """
    if not SLOWEST <= rate <= FASTEST:
        raise UserError(f"motion of {rate:g} frames a second cannot drive; give {SLOWEST} to {FASTEST}")
    count = len(jax.tree.leaves(motion)[0])
    if abs(rate - FPS) < 1e-3:
        return motion
    places = np.minimum(np.arange(max(1, round(count * FPS / rate))) * rate / FPS, count - 1)
    low = np.floor(places).astype(int)
    high, share = np.minimum(low + 1, count - 1), (places - low).astype(np.float32)

    def between(leaf: np.ndarray) -> np.ndarray:
        leaf = np.asarray(leaf)
        weight = share.reshape(-1, *[1] * (leaf.ndim - 1))
        return (1 - weight) * leaf[low] + weight * leaf[high]

    return jax.tree.map(between, motion)


def looped(motion: Motion, start: int, count: int) -> Motion:
    """Frames `start` to `start + count` of a motion that goes forth and back without end."""
    length = len(jax.tree.leaves(motion)[0])
    place = np.arange(start, start + count) % max(1, 2 * length - 2)
    place = np.where(place < length, place, 2 * length - 2 - place)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[place], motion)
