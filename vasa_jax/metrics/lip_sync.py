"""Does the mouth follow the speech? What is asked of a motion model about it, and how.

VASA-1 section 4.1 asks SyncNet how well sound and lips agree. Here the mouth that belongs to the sound is known, so the
question is asked of it directly: the model's mouth is correlated with the true one of the same speech. Three ways to
hear:

    own       the clip's own sound
    other     another clip's: the correlation with the clip's truth must vanish
    nothing   null tokens for every window's sound: a network that only flaps scores what this scores
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vasa_jax.arrays import FPS, SAMPLES_PER_FRAME, Motion
from vasa_jax.errors import UserError
from vasa_jax.inference.offline import Model, first, windows
from vasa_jax.inference.pair import Options
from vasa_jax.metrics.correlation import voiced_span
from vasa_jax.synthetic.performance import Emotion, perform
from vasa_jax.synthetic.state import State

MARGIN = 2.0
"""Seconds that a clip is longer than what is asked of it, so that silence can be trimmed off its ends."""


class Speech(NamedTuple):
    """A stretch of speech without silence at either end.

    seed: of the person who speaks. states: of NumPy arrays with a leading axis t. audio: (640 t,) at 16 kHz.
    """

    seed: int
    states: State
    audio: Float[np.ndarray, " n"]


def speeches(seeds: range, count: int, seconds: float, emotion: Emotion | None = None) -> list[Speech]:
    """The first `count` people among `seeds` who speak for `seconds`, silence trimmed, all equally long.

    Args:
        seeds: people to draw from, in order; one whose speech is too short is passed over.
        count: how many.
        seconds: length of each.
        emotion: in which they speak; None is each one's own.

    Raises:
        UserError: if all seeds together hold too few.
    """
    length, found = round(seconds * FPS), []
    for seed in seeds:
        if len(found) == count:
            break
        performance = perform(seed, seconds + MARGIN, emotion)
        begin, end = voiced_span(performance.audio, SAMPLES_PER_FRAME)
        if end - begin >= length:
            states = jax.tree.map(lambda x, begin=begin: x[begin : begin + length], performance.states)
            audio = performance.audio[begin * SAMPLES_PER_FRAME : (begin + length) * SAMPLES_PER_FRAME]
            found.append(Speech(seed, states, audio))
    if len(found) < count:
        raise UserError(f"{len(seeds)} seeds hold only {len(found)} clips of {seconds} s; ask for fewer than {count=}")
    return found


def unheard(model: Model, portrait: Any, audio: Float[np.ndarray, " n"], seed: int, steps: int = 0) -> Iterator[Motion]:
    """Motion as `Model.motions` makes it, from H(C without A) alone: (1 + l) H(C) - l H(C without A) at l = -1.

    As everywhere, "without A" leaves the context its own sound: what was said before a window, not in it. `steps` are
    the sampler's; 0 is the model's own number.
    """
    motion, options = model.motion, Options(steps, (("audio", -1.0), ("gaze", 0.0)))
    controls, needs = motion.make_controls(), motion.needs
    carry = motion.start(jax.random.key(seed), portrait, controls)
    for samples, count in windows([audio], needs):
        carry, drawn = motion.step(carry, jnp.asarray(samples), needs.window, needs.hop, controls, options)
        yield first(drawn, count)
