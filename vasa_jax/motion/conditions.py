"""Conditions of the motion transformer, and how training hides them (VASA-1 section 3.2).

    C = [X_pre, A_pre; A, g, d, e]: the last K frames of motion and their audio; the window's audio; gaze; distance of
    the head; emotion. Each can be absent, the frame-wise ones frame by frame: a mask says what is known, and a learned
    null embedding stands for the rest.

Context frames are aligned to the right (the last one is the frame before the window), so that a context of m < K known
frames lacks the first K - m. Hidden in training: see `hide`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from vasa_jax.arrays import EMOTIONS
from vasa_jax.audio.front_end import front_end
from vasa_jax.motion.config import MotionConfig

GUIDED = ("audio", "gaze", "distance", "emotion")
"""Conditions that guidance can drop, one at a time."""


class Conditions(NamedTuple):
    """What the transformer is told; True in a mask means known, and the value under a False is never read.

    previous_motion (b, K, 6 + z): normalised motion of the K frames before the window. previous_motion_mask (b, K).
    previous_audio (b, K, 4, 80) log-mel, or (b, K, feature_dim) features; previous_audio_mask (b, K).
    audio (b, W, 4, 80) or (b, W, feature_dim): sound of the window's own frames. audio_mask (b, W).
    gaze (b, 2): (theta, phi) in radians, in the camera frame. gaze_mask (b,).
    distance (b, 1): log of the head's distance over the training mean, as pose[5]. distance_mask (b,).
    emotion (b, 8): coefficients of `arrays.EMOTIONS`. emotion_mask (b,).
    """

    previous_motion: Float[Array, "b k d"]
    previous_motion_mask: Bool[Array, "b k"]
    previous_audio: Float[Array, "b k *feature"]
    previous_audio_mask: Bool[Array, "b k"]
    audio: Float[Array, "b w *feature"]
    audio_mask: Bool[Array, "b w"]
    gaze: Float[Array, "b 2"]
    gaze_mask: Bool[Array, " b"]
    distance: Float[Array, "b 1"]
    distance_mask: Bool[Array, " b"]
    emotion: Float[Array, "b 8"]
    emotion_mask: Bool[Array, " b"]


def audio_shape(config: MotionConfig) -> tuple[int, ...]:
    """Shape of the sound of one video frame: (4, 80) log-mel, or (feature_dim,)."""
    return front_end(config.audio).shape


def empty(config: MotionConfig, batch: int) -> Conditions:
    """Conditions of which nothing is known: fill in what is with `_replace`."""
    frame, k, w = audio_shape(config), config.context, config.window
    return Conditions(
        previous_motion=jnp.zeros((batch, k, config.motion_dim)),
        previous_motion_mask=jnp.zeros((batch, k), bool),
        previous_audio=jnp.zeros((batch, k, *frame)),
        previous_audio_mask=jnp.zeros((batch, k), bool),
        audio=jnp.zeros((batch, w, *frame)),
        audio_mask=jnp.zeros((batch, w), bool),
        gaze=jnp.zeros((batch, 2)),
        gaze_mask=jnp.zeros((batch,), bool),
        distance=jnp.zeros((batch, 1)),
        distance_mask=jnp.zeros((batch,), bool),
        emotion=jnp.zeros((batch, len(EMOTIONS))),
        emotion_mask=jnp.zeros((batch,), bool),
    )


def hide(config: MotionConfig, conditions: Conditions, keys: Key[Array, " b"]) -> Conditions:
    """Hide conditions at random for training, each sample by its own key; nothing unknown becomes known.

    * audio, gaze, distance, emotion: each alone with probability drop.condition;
    * context: with probability drop.context all of it; of the samples that keep some, half keep all K frames, as every
      window of a session but its first ones has them, and half the last m, m uniform in 1..K; the motion and its audio
      together;
    * audio: with probability drop.audio_tail all but the first n frames, n uniform in drop.audio_min_frames..W.
    """
    drop = config.drop

    def one(key: Array, masks: dict[str, Array]) -> dict[str, Array]:
        u = jax.random.uniform(key, (len(GUIDED) + 4,))  # one draw: every generator takes a second to compile
        alone, (context, known, tail, length) = u[:-4] >= drop.condition, u[-4:]
        some = jnp.where(known < 0.5, 1 + jnp.floor(2 * known * config.context), config.context)
        frames = jnp.where(context < drop.context, 0, some)
        in_context = jnp.arange(config.context) >= config.context - frames
        shortest = drop.audio_min_frames
        heard = shortest + jnp.floor(length * (config.window - shortest + 1))
        heard = jnp.where(tail < drop.audio_tail, heard, config.window)
        keep = {f"{name}_mask": alone[i] for i, name in enumerate(GUIDED)}
        keep["audio_mask"] &= jnp.arange(config.window) < heard
        keep |= {"previous_motion_mask": in_context, "previous_audio_mask": in_context}
        return {name: masks[name] & keep[name] for name in masks}

    masks = {name: value for name, value in conditions._asdict().items() if name.endswith("_mask")}
    return conditions._replace(**jax.vmap(one)(keys, masks))
