"""Videos that are text files: what is in them says what preparing them does, so that jobs are tested without films.

clips 2 dropped 1       that many of each
fail WORDS              a file that cannot be used
bug                     an exception that nobody expected
die N                   the worker kills itself, the first N times
slow .                  it waits for a file `.go` beside it
"""

import contextlib
import io
import os
import signal
import time
import zlib

import numpy as np
from PIL import Image

from vasa_jax.errors import UserError
from vasa_jax.preparation.results import Dropped, PreparedClip

OPENED = "opened"


@contextlib.contextmanager
def open_helpers(config):
    yield OPENED


@contextlib.contextmanager
def no_helpers(config):
    raise UserError("the detector is not there; fetch it")
    yield


@contextlib.contextmanager
def dying_helpers(config):
    os.kill(os.getpid(), signal.SIGKILL)
    yield


def candidates(path, source, config, helpers):
    assert helpers == OPENED
    words = path.read_text().split()
    random = np.random.default_rng(zlib.crc32(source.encode()))
    with (path.parent / f".{path.name}.tries").open("a") as tries:
        tries.write(f"{os.getpid()}\n")
    for name, number in zip(words[::2], [*words[1::2], ""], strict=False):
        if name == "fail":
            raise UserError(f"{path.name} {number}; mend it")
        if name == "bug":
            raise ZeroDivisionError("<b>nobody</b> expected this")
        if name == "die" and len(attempts(path)) <= int(number):
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "slow":
            while not (path.parent / ".go").exists():
                time.sleep(0.01)
        if name == "dropped":
            for i in range(int(number)):
                yield Dropped(("small", "no speech")[i % 2], 2.0 * i, 2.0 * i + 1.5, picture(random))
        if name == "clips":
            for i in range(int(number)):
                yield clip(random, source, i, 5 + i)


def in_degrees(path, source, config, helpers):
    """The first clip has its angles in degrees."""
    for i, item in enumerate(candidates(path, source, config, helpers)):
        yield item if i else item._replace(labels=item.labels | {"pose": item.labels["pose"] + np.float32(30)})


def attempts(path):
    """Process numbers of those that tried a video."""
    tries = path.parent / f".{path.name}.tries"
    return tries.read_text().split() if tries.exists() else []


def picture(random):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), tuple(int(level) for level in random.integers(0, 255, 3))).save(buffer, "JPEG")
    return buffer.getvalue()


def clip(random, source, track, count):
    pose = random.uniform(-0.3, 0.3, (count, 6)).astype(np.float32)
    labels = {
        "pose": pose,
        "gaze": np.full((count, 2), np.nan, np.float32),
        "mouth": random.uniform(0, 1, (count, 1)).astype(np.float32),
        "emotion": np.eye(8, dtype=np.float32)[track % 8],
        "identity": np.int64(zlib.crc32(f"{source} {track}".encode())),
    }
    about = {
        "source": source,
        "track": track,
        "start": 2.0 * track,
        "end": 2.0 * track + count / 25,
        "speech": np.float64(0.8),
    }
    return PreparedClip([picture(random) for _ in range(count)], np.zeros(640 * count, np.float32), labels, about)


def write_films(folder, **films):
    """Write videos; `__` in a name stands for a slash, and every name ends in .mp4."""
    for name, words in films.items():
        path = folder / f"{name.replace('__', '/')}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words)
    return folder
