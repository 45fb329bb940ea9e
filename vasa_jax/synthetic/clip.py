"""Clips: a synthetic person performing, with sound and with the truth about every frame.

The world's answer to the training videos of VASA-1 (section 4). A seed decides the person, the voice, the words and the
acting; the labels are those that the records of `data` carry, true by construction rather than measured.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from vasa_jax.synthetic.identity import Identity, identity_from_seed
from vasa_jax.synthetic.performance import Emotion, Performance, perform
from vasa_jax.synthetic.render import labels, render
from vasa_jax.synthetic.state import State

BATCH = 20
"""Frames of up to 128 x 128 pixels in one call of the renderer (fewer of larger ones), whatever the clip's length."""


class Clip(NamedTuple):
    """One clip of t frames.

    frames: uint8 RGB pictures. audio: 16 kHz sound in [-1, 1], n = 640 t. labels: NumPy pose (t, 6), gaze (t, 2),
    mouth (t, 1), lids (t, 2), expression (t, 2), regions (t, 3, 4), emotion (8,), identity () int64, and phonemes, a
    list of (symbol, start_s, end_s). The distance is pose[:, 5], a logarithm. performance: what was acted.
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    audio: Float32[np.ndarray, " n"]
    labels: dict[str, Any]
    performance: Performance


@partial(jax.jit, static_argnums=2)
def _shoot(identity: Identity, states: State, size: int) -> tuple[jax.Array, dict[str, jax.Array]]:
    people = jax.tree.map(lambda x: jnp.broadcast_to(x, (*states.jaw.shape, *x.shape)), identity)
    return jnp.round(render(people, states, size) * 255.0).astype(jnp.uint8), labels(people, states)


def shoot(
    identity: Identity, states: State, size: int
) -> Iterator[tuple[UInt8[np.ndarray, "t h w 3"], dict[str, np.ndarray]]]:
    """Film a performance of one person in pieces of at most BATCH frames, all of one compiled shape.

    Args:
        identity: without leading axes.
        states: with leading axis t.
        size: side of the pictures in pixels, at least 8.

    Yields:
        Pictures and their labels, in order.
    """
    count = len(states.jaw)
    piece = min(BATCH, max(1, BATCH * 128**2 // max(1, size**2)))
    for begin in range(0, count, piece):
        index = np.minimum(np.arange(begin, begin + piece), count - 1)
        kept = min(piece, count - begin)
        batch = jax.tree.map(lambda x, index=index: np.asarray(x)[index], states)
        frames, truth = jax.device_get(_shoot(identity, batch, size))
        yield frames[:kept], {name: value[:kept] for name, value in truth.items()}


def make_clip(seed: int, seconds: float = 4.0, size: int = 128, emotion: Emotion | None = None) -> Clip:
    """The clip of a seed: round(25 seconds) frames of `size` x `size` pixels, sound and truth.

    Raises ValueError for a seed outside 0 .. 2**32 - 1, less than one frame, a size below 8 or an unknown emotion.
    """
    identity = identity_from_seed(seed)
    performance = perform(seed, seconds, emotion)
    frames, truth = zip(*shoot(identity, performance.states, size), strict=True)
    known = {name: np.concatenate([part[name] for part in truth]) for name in truth[0]}
    known |= {"emotion": performance.emotion, "identity": np.int64(seed), "phonemes": list(performance.phonemes)}
    return Clip(np.concatenate(frames), performance.audio, known, performance)
