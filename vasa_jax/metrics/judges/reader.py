"""A reader of what has no label in the code: brows frame by frame, and the emotion of a clip.

Both are linear in a frame's head pose and dynamics code, so nothing is found that the code does not carry openly. They
are fitted to true frames of the world's split "probe", whom no other network meets, as stage 1 reads them: a ridge
regression to the brows, and Fisher's discriminant between the eight emotions, acted in full, on means over a clip.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from vasa_jax.arrays import EMOTIONS, FPS
from vasa_jax.synthetic.performance import Emotion, perform
from vasa_jax.synthetic.splits import seeds
from vasa_jax.synthetic.state import State

PEOPLE = seeds("probe")[10_000:10_040]
"""Who acts every emotion."""
SECONDS, STEP = 4.0, 5
"""Length of a clip, and every how many frames it is looked at."""
RIDGE = 1e-2
"""Of the regression, and of the covariance within a class, in variances of an input."""


class Reader(NamedTuple):
    """centre, unit: (c,) of the inputs, c = 6 + z. to_brows: (c + 1,). to_emotion: (c + 1, 8), scores of a clip."""

    centre: Any
    unit: Any
    to_brows: Any
    to_emotion: Any

    def brows(self, pose: Float[np.ndarray, "t 6"], dynamics: Float[np.ndarray, "t z"]) -> Float[np.ndarray, " t"]:
        """How far the brows are raised, -1 lowered .. 1 raised."""
        return _with_one(self._inputs(pose, dynamics)) @ self.to_brows

    def emotion(self, pose: Float[np.ndarray, "t 6"], dynamics: Float[np.ndarray, "t z"]) -> int:
        """The number in `EMOTIONS` of the emotion of a clip."""
        return int(np.argmax(_with_one(self._inputs(pose, dynamics).mean(0, keepdims=True)) @ self.to_emotion))

    def _inputs(self, pose: np.ndarray, dynamics: np.ndarray) -> np.ndarray:
        return (np.concatenate([pose, dynamics], 1) - self.centre) / self.unit


def fit_reader(encode: Callable[[int, State], Any], people: range = PEOPLE) -> Reader:
    """Fit a reader.

    Args:
        encode: person and states to what stage 1 reads off the frames, with `pose` and `dynamics`.
        people: who acts.
    """
    inputs, brows, felt = [], [], []
    for number, name in enumerate(EMOTIONS):
        for person in people:
            states = jax.tree.map(lambda x: x[::STEP], perform(person, SECONDS, Emotion(name, 1.0)).states)
            seen = encode(person, states)
            inputs.append(np.concatenate([seen.pose, seen.dynamics], 1))
            brows.append(np.asarray(states.brow_raise))
            felt.append(number)
    assert len(brows[0]) == round(SECONDS * FPS) // STEP
    return solve(np.stack(inputs), np.stack(brows), np.array(felt))


def solve(
    inputs: Float[np.ndarray, "n t c"], brows: Float[np.ndarray, "n t"], felt: np.ndarray, classes: int = len(EMOTIONS)
) -> Reader:
    """The reader of n clips of t frames.

    Args:
        inputs: pose and code. brows: of every frame. felt: (n,) the class of each clip, all with equal odds.
        classes: how many there are.
    """
    flat = inputs.reshape(-1, inputs.shape[-1]).astype(np.float64)
    centre, unit = flat.mean(0), np.maximum(flat.std(0), 1e-6)
    scaled = (inputs - centre) / unit
    frames = _with_one(scaled.reshape(flat.shape))
    penalty = RIDGE * len(frames) * np.diag([1.0] * len(centre) + [0.0])
    to_brows = np.linalg.solve(frames.T @ frames + penalty, frames.T @ brows.reshape(-1))
    clips = scaled.mean(1)
    means = np.stack([clips[felt == number].mean(0) for number in range(classes)])
    within = clips - means[felt]
    covariance = within.T @ within / len(within) + RIDGE * np.eye(len(centre))
    weights = np.linalg.solve(covariance, means.T)
    return Reader(centre, unit, to_brows, np.concatenate([weights, -0.5 * (means * weights.T).sum(1)[None]]))


def _with_one(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((len(rows), 1))], 1)
