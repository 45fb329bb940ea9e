"""Does the mouth follow the speech? Generated mouths against the true mouth of the same speech, on held-out clips.

VASA-1 section 4.1 asks SyncNet how well sound and lips agree. Here the mouth that belongs to the sound is known, so the
question is asked of it directly: a clip's first frame and its sound go through the whole path that users take
(portrait, motion windows, frames), the probe reads the mouth opening off every generated frame, and that curve is
correlated with the truth. Three ways to hear:

    own       the clip's own sound
    deranged  another clip's: the correlation with the clip's truth must vanish
    nulled    none at all, by null tokens for every window's sound: a network that only flaps scores what this scores
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.arrays import FPS, SAMPLES_PER_FRAME, Motion, Portrait
from vasa_jax.errors import UserError
from vasa_jax.geometry.rotation import gaze_in_head
from vasa_jax.inference.offline import Model, first, windows
from vasa_jax.inference.pair import Options
from vasa_jax.metrics.correlation import voiced_span
from vasa_jax.metrics.probe import Reading
from vasa_jax.metrics.transfer import people_of, photograph
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.render import labels

Read = Callable[[Float[np.ndarray, "t h w 3"]], Reading]
MARGIN = 2.0
"""Seconds that a clip is longer than what is asked of it, so that silence can be trimmed off its ends."""


class SpokenClip(NamedTuple):
    """A stretch of speech without silence at either end, and who says it.

    seed: of the person. frames: (t, h, w, 3) the true pictures. audio: (640 t,) at 16 kHz. truth: what is true of each
    frame.
    """

    seed: int
    frames: UInt8[np.ndarray, "t h w 3"]
    audio: Float[np.ndarray, " n"]
    truth: Reading


def spoken_clips(seeds: range, count: int, seconds: float, size: int) -> list[SpokenClip]:
    """The first `count` clips among `seeds` that speak for `seconds`, equally long, silence trimmed.

    Args:
        seeds: people to draw from, in order; one whose speech is too short is passed over.
        count: clips wanted.
        seconds: length of each.
        size: side of the pictures.

    Raises:
        UserError: if all seeds together hold too few.
    """
    length, clips = round(seconds * FPS), []
    for seed in seeds:
        if len(clips) == count:
            break
        performance = perform(seed, seconds + MARGIN)
        begin, end = voiced_span(performance.audio, SAMPLES_PER_FRAME)
        if end - begin < length:
            continue
        states = jax.tree.map(lambda x, begin=begin: x[begin : begin + length], performance.states)
        people = people_of([seed] * length)
        frames = np.round(photograph(people, states, size) * 255).astype(np.uint8)
        true = labels(people, states)
        audio = performance.audio[begin * SAMPLES_PER_FRAME : (begin + length) * SAMPLES_PER_FRAME]
        clips.append(SpokenClip(seed, frames, audio, _reading(true)))
    if len(clips) < count:
        raise UserError(f"{len(seeds)} seeds hold only {len(clips)} clips of {seconds} s; ask for fewer than {count=}")
    return clips


def speak(
    model: Model,
    clip: SpokenClip,
    audio: Float[np.ndarray, " n"],
    read: Read,
    hear: Literal["audio", "null"],
    seed: int,
) -> tuple[Reading, UInt8[np.ndarray, "t h w 3"]]:
    """The clip's first frame says `audio`: what the probe reads off the generated frames, and the frames.

    Args:
        model: as from `vasa_jax.load`.
        clip: who speaks.
        audio: samples at 16 kHz.
        read: the probe, on frames in 0..1.
        hear: "null" replaces every window's sound by null tokens (its length still counts).
        seed: of the motion.
    """
    portrait = model.portrait(clip.frames[0])
    motions = model.motions(portrait, audio, seed=seed) if hear == "audio" else _unheard(model, portrait, audio, seed)
    frames = np.stack(list(model.frames(portrait, motions)))
    return read(frames.astype(np.float32) / 255), frames


def _unheard(model: Model, portrait: Portrait, audio: Float[np.ndarray, " n"], seed: int) -> Iterator[Motion]:
    """Motion as `Model.motions` makes it, from H(C without A) alone: (1 + l) H(C) - l H(C without A) at l = -1.

    As everywhere, "without A" leaves the context its own sound: what was said before a window, not in it.
    """
    motion, options = model.motion, Options(guidance=(("audio", -1.0), ("gaze", 0.0)))
    controls, window = motion.make_controls(), motion.needs.window
    carry = motion.start(jax.random.key(seed), portrait, controls)
    for samples, count in windows([audio], motion.needs):
        carry, drawn = motion.step(carry, jnp.asarray(samples), window, window, controls, options)
        yield first(drawn, count)


def _reading(true: dict[str, jax.Array]) -> Reading:
    """Labels of t frames as a reading: the mouth flat, the gaze in the head."""
    gaze = gaze_in_head(true["gaze"], true["pose"])
    return Reading(*(np.asarray(x) for x in (true["pose"], true["mouth"][:, 0], true["lids"], gaze)))
