"""The one step of a session: a window of sound in, its first frames of motion out (VASA-1 section 3.2).

Offline and streaming drivers both call `session_step` from a Python loop; the scan of the sampler is inside it. Between
calls a session remembers

    (key, window number, the last K frames of normalised motion, their sound, which of them are known, loudness),

so a window is conditioned on the frames that were emitted just before it, the first one on nothing, and a session of
any length has one size. A model with an anchor leaves from the last of these frames (`motion.denoiser`), at any hop.
Window n draws its noise from fold_in(key, n): the same seed gives the same motion, however the
sound arrived. A step emits the first `hop` frames of its window and forgets the others: offline the whole window, live
as few as latency asks for. Frames whose sound is still to come are unknown to the network, as in its training.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vasa_jax.arrays import Motion
from vasa_jax.audio.front_end import front_end, known_frames
from vasa_jax.audio.loudness import Loudness
from vasa_jax.diffusion.ddim import Ddim
from vasa_jax.diffusion.stepper import Stepper
from vasa_jax.inference.controls import Controls
from vasa_jax.motion.conditions import audio_shape, empty
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.sampling import sample_window
from vasa_jax.motion.statistics import Statistics, denormalise


class Carry(NamedTuple):
    """What a session remembers between windows; the last K frames are aligned to the right.

    key: of the session. window: (), int32, number of the next window. motion: (1, K, 6 + z) float32, normalised.
        audio: (1, K, ...) float32, features of the front end. known: (1, K) bool. loudness: of the recording so far.
    """

    key: Any
    window: Any
    motion: Any
    audio: Any
    known: Any
    loudness: Loudness


def session_start(config: MotionConfig, key: Key[Array, ""]) -> Carry:
    """A session of which nothing is known yet, as NumPy arrays, which need no compiler."""
    k = config.context
    return Carry(
        key=key,
        window=np.zeros((), np.int32),
        motion=np.zeros((1, k, config.motion_dim), np.float32),
        audio=np.zeros((1, k, *audio_shape(config)), np.float32),
        known=np.zeros((1, k), bool),
        loudness=front_end(config.audio).start(1),
    )


def session_step(
    config: MotionConfig,
    params: dict[str, Any],
    speech: Any,
    statistics: Statistics,
    carry: Carry,
    samples: Float[Array, " n"],
    controls: Controls,
    guidance: Mapping[str, Array],
    heard: Any,
    hop: int,
    steps: int,
    stepper: Stepper = Ddim(),  # noqa: B008 (frozen)
) -> tuple[Carry, Motion]:
    """Generates the next frames. Jit it with config, hop, steps and stepper static.

    Args:
        config, params, statistics: of the motion model.
        speech: weights of the frozen network that makes its features, {} where there is none.
        carry: of the session.
        samples: (n,) at 16 kHz: the window's slice of sound, as the front end takes it.
        controls: one value each, without an axis of frames. Their distance is a factor of the training mean, whose
            logarithm is `statistics.pose_mean[5]`.
        guidance: scales by name of condition; each name is a branch, so leave out those of scale 0.
        heard: frames of the window whose sound exists, with what the front end hears behind them, () int.
        hop: frames to emit, 1 to W, a multiple of the front end's block.
        steps: of the sampler, 1 or more.
        stepper: of the sampler.

    Returns:
        The next carry, and raw motion (hop, 6) and (hop, z).
    """
    front = front_end(config.audio)
    loudness, sound = front.hear(speech, carry.loudness, samples[None], hop)
    yes = jnp.ones((1,), bool)
    conditions = empty(config, 1)._replace(
        previous_motion=carry.motion,
        previous_motion_mask=carry.known,
        previous_audio=carry.audio,
        previous_audio_mask=carry.known,
        audio=sound,
        audio_mask=jnp.arange(config.window)[None] < known_frames(front, heard),
        gaze=jnp.asarray(controls.gaze)[None],
        gaze_mask=yes,
        distance=(statistics.pose_mean[5:] + controls.distance)[None],
        distance_mask=yes,
        emotion=jnp.asarray(controls.emotion)[None],
        emotion_mask=jnp.asarray(controls.emotion_known)[None],
    )
    key = jax.random.fold_in(carry.key, carry.window)
    drawn = sample_window(config, params, key, conditions, steps, stepper, guidance)[:, :hop]

    def last(before: Array, new: Array) -> Array:
        return jnp.concatenate([before, new], axis=1)[:, -config.context :]

    following = Carry(
        key=carry.key,
        window=carry.window + 1,
        motion=last(carry.motion, drawn),
        audio=last(carry.audio, sound[:, :hop]),
        known=last(carry.known, jnp.ones((1, hop), bool)),
        loudness=loudness,
    )
    motion = denormalise(statistics, drawn)
    return following, Motion(motion.pose[0], motion.dynamics[0])


def sessions_step(
    config: MotionConfig,
    params: dict[str, Any],
    speech: Any,
    statistics: Statistics,
    carries: Carry,
    samples: Float[Array, "s n"],
    controls: Controls,
    guidance: Mapping[str, Array],
    heard: Any,
    hop: int,
    steps: int,
    stepper: Stepper = Ddim(),  # noqa: B008 (frozen)
) -> tuple[Carry, Motion]:
    """`session_step` of several sessions at once, which lead in carries, samples, controls and what is returned."""

    def one(carry: Carry, sound: Array, wanted: Controls) -> tuple[Carry, Motion]:
        return session_step(
            config, params, speech, statistics, carry, sound, wanted, guidance, heard, hop, steps, stepper
        )

    return jax.vmap(one)(carries, samples, controls)
