"""Small films of the world for the tests of preparation, and the pictures they are made of."""

import functools
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.preparation import write_film
from vasa_jax.faces.landmarks import Landmarker, NoDetectorError
from vasa_jax.synthetic.clip import Clip, make_clip

RATE = Fraction(25)


@functools.cache
def person(seed: int = 1_000_000, seconds: float = 2.4) -> Clip:
    """A clip of the world, enlarged to 256 pixels."""
    clip = make_clip(seed, seconds, 128)
    return clip._replace(
        frames=np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_CUBIC) for frame in clip.frames])
    )


def need_detector() -> None:
    """Skip where there is no detector, with its reason."""
    try:
        with Landmarker():
            pass
    except NoDetectorError as error:
        pytest.skip(str(error))


def talk(path: Path, seed: int = 1_000_000, count: int | None = None, **given) -> Path:
    """A film of one person with sound; `given` goes to `write_film`."""
    clip = person(seed)
    frames = clip.frames[:count]
    audio = given.pop("audio", np.asarray(clip.audio, np.float32)[: 640 * len(frames)])
    write_film(path, given.pop("frames", frames), given.pop("rate", RATE), audio, **given)
    return path
