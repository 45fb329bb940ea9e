"""The bundled demo's performance of a synthetic speech, as the tests judge it.

python -m tests.demo.performance      # writes golden.npz again, from the model at hand
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

import vasa_jax
from vasa_jax.arrays import SAMPLE_RATE, Motion
from vasa_jax.inference import Model
from vasa_jax.metrics.transfer import people_of
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.render import labels
from vasa_jax.synthetic.splits import seeds

SECONDS = 24.0
"""Length of the speech."""
STEPS = 10
"""Of the sampler."""
PERSON = seeds("test")[200]
"""Who speaks: nobody whom training or `benchmarks.demo_quality` meets."""
GOLDEN = Path(__file__).with_name("golden.npz")
"""portrait: the speaker, uint8 (64, 64, 3). mouth: how far it is truly open, (600,) in 0..1. pose (10, 6), dynamics
(10, z), frames (2, 64, 64, 3): what the bundled model did at its release, see `first_window`."""
KEPT = slice(4, 50, 5)
"""Frames of the first window that `GOLDEN` holds."""


@functools.cache
def demo() -> Model:
    """The bundled model, loaded and compiled once."""
    return vasa_jax.load("demo")


@functools.cache
def golden() -> dict[str, np.ndarray]:
    """What `GOLDEN` holds."""
    with np.load(GOLDEN) as stored:
        return dict(stored)


@functools.cache
def speech() -> np.ndarray:
    """The voice, (n,) at 16 kHz."""
    return perform(PERSON, SECONDS).audio


def motion(sound: np.ndarray, **controls) -> Motion:
    """Raw motion (t, 6) and (t, z) of the speaker who says a sound at 16 kHz."""
    parts = list(demo().motions(demo().portrait(golden()["portrait"]), sound, steps=STEPS, **controls))
    return jax.tree.map(lambda *stretches: np.concatenate(stretches), *parts)


def first_window() -> dict[str, np.ndarray]:
    """Frames `KEPT` of the first two seconds: pose, dynamics, and two of them rendered."""
    moved = jax.tree.map(lambda part: part[KEPT], motion(speech()[: 2 * SAMPLE_RATE]))
    frames = list(demo().frames(demo().portrait(golden()["portrait"]), iter([moved])))
    return {"pose": moved.pose, "dynamics": moved.dynamics, "frames": np.stack(frames)[[2, 8]]}


def write() -> None:
    """Write `GOLDEN`."""
    states = perform(PERSON, SECONDS).states
    mouth = np.asarray(labels(people_of([PERSON] * len(states.jaw)), states)["mouth"])[:, 0]
    world = {"portrait": make_clip(PERSON, 0.04, demo().size).frames[0], "mouth": mouth}
    _save(world)
    golden.cache_clear()
    _save(world | first_window())


def _save(arrays: dict[str, Any]) -> None:
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    write()
