"""The stage-2 objective: a clip of motion and its sound in, one number out (VASA-1 section 3.2).

    L = E || x0 - H(x_t, t, C) ||^2,   t uniform in 1..T,   x_t as in `diffusion.process`,       (1)

the mean over W frames and 6 + z normalised components, with conditions hidden at random (`conditions.hide`). Every
random number of a sample comes from its own key, and no sample sees another.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from vasa_jax.arrays import EMOTIONS, POSE_DIM, Motion
from vasa_jax.audio.augmentation import SoundAugmentationConfig, augment
from vasa_jax.audio.front_end import front_end, slice_samples
from vasa_jax.diffusion.process import q_sample
from vasa_jax.diffusion.schedule import cosine
from vasa_jax.motion.conditions import Conditions, hide
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import predict
from vasa_jax.motion.smoothing import smooth_head
from vasa_jax.motion.statistics import Statistics, normalise

SOUND = 1
"""Folded into a sample's key for the augmentation of its sound."""


def batch_spec(config: MotionConfig, batch_size: int, heard: bool = False) -> dict[str, jax.ShapeDtypeStruct]:
    """What a batch holds, all float32: K + W consecutive frames of one clip and their sound, raw units.

    motion_pose (b, K + W, 6), motion_dynamics (b, K + W, z); gaze (b, 2) radians, distance (b, 1) log distance, emotion
    (b, 8), of the window, NaN where unlabelled; and samples (b, n), the slice of sound of the front end, or, where it
    has `heard` them, features (b, K + W, ...); NaN where a clip has no sound.
    """
    frames, front = config.context + config.window, front_end(config.audio)
    shapes = {
        "motion_pose": (frames, POSE_DIM),
        "motion_dynamics": (frames, config.dynamics_dim),
        "gaze": (2,),
        "distance": (1,),
        "emotion": (len(EMOTIONS),),
    }
    shapes |= {"features": (frames, *front.shape)} if heard else {"samples": (slice_samples(front, frames),)}
    return {name: jax.ShapeDtypeStruct((batch_size, *shape), jnp.float32) for name, shape in shapes.items()}


def listen(
    config: MotionConfig,
    speech: Any,
    batch: dict[str, Array],
    keys: Key[Array, " b"] | None = None,
    augmentation: SoundAugmentationConfig | None = None,
) -> dict[str, Array]:
    """The batch with features in the place of samples; a batch that has none is returned as it is.

    Each slice is heard from a loudness of which nothing is known, or, by `augmentation.settled`, its own, by hearing
    the slice before. No gradient goes through.

    Args:
        config: sizes.
        speech: weights of the frozen network, {} where there is none.
        batch: as `batch_spec` says.
        keys: one a sample, of the augmentation.
        augmentation: of the sound; None in validation.
    """
    if "samples" not in batch:
        return batch
    rest = dict(batch)
    samples, settled, front = rest.pop("samples"), None, front_end(config.audio)
    frames = config.context + config.window
    if samples.shape[1] != slice_samples(front, frames):
        raise ValueError(
            f"batch['samples'] has shape {samples.shape}; this config needs (b, {slice_samples(front, frames)})"
        )
    if augmentation is not None and (augmentation.share or augmentation.settled):
        if keys is None:
            raise ValueError("augmentation needs a key a sample")
        samples, settled = _augmented(augmentation, samples, keys)
    state = front.start(len(samples), samples.dtype)
    if settled is not None:
        after, _ = front.hear(speech, state, samples)
        state = jax.tree.map(lambda known, nothing: jnp.where(settled, known, nothing), after, state)
    return rest | {"features": jax.lax.stop_gradient(front.hear(speech, state, samples)[1])}


def conditions_of_batch(
    config: MotionConfig, statistics: Statistics, batch: dict[str, Array]
) -> tuple[Float[Array, "b w d"], Conditions]:
    """The window's normalised motion x0, and conditions in which all that a batch knows is known.

    Args:
        config: sizes.
        statistics: of the training set.
        batch: as `batch_spec` says; samples of log-mel are heard here.

    Raises:
        ValueError: a batch without an entry of `batch_spec`, or with one of another shape.
    """
    if not config.audio.frozen:
        batch = listen(config, {}, batch)
    for name, spec in batch_spec(config, len(batch["motion_pose"]), heard=True).items():
        if name not in batch:
            raise ValueError(f"the batch has no {name!r}, which audio.kind={config.audio.kind!r} needs; see batch_spec")
        if batch[name].shape != spec.shape:
            raise ValueError(f"batch[{name!r}] has shape {batch[name].shape}; this config needs {spec.shape}")
    k = config.context
    motion = normalise(statistics, Motion(batch["motion_pose"], batch["motion_dynamics"]))
    if config.head_cutoff:
        motion = smooth_head(config.head_cutoff, motion)
    sound = batch["features"]
    everywhere = jnp.ones(motion.shape[:2], bool)
    heard = jnp.isfinite(sound).all(tuple(range(2, sound.ndim)))
    return motion[:, k:], Conditions(
        previous_motion=motion[:, :k],
        previous_motion_mask=everywhere[:, :k],
        previous_audio=sound[:, :k],
        previous_audio_mask=heard[:, :k],
        audio=sound[:, k:],
        audio_mask=heard[:, k:],
        gaze=batch["gaze"],
        gaze_mask=jnp.isfinite(batch["gaze"]).all(-1),
        distance=batch["distance"],
        distance_mask=jnp.isfinite(batch["distance"]).all(-1),
        emotion=batch["emotion"],
        emotion_mask=jnp.isfinite(batch["emotion"]).all(-1),
    )


def loss(
    config: MotionConfig,
    params: dict[str, Any],
    statistics: Statistics,
    batch: dict[str, Array],
    keys: Key[Array, " b"],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Equation (1) for one batch.

    Args:
        config: sizes and drop rates.
        params: of the denoiser.
        statistics: of the training set; constants.
        batch: as `conditions_of_batch` takes it.
        keys: one a sample.

    Returns:
        The mean over samples, and its parts: mean squared error of `pose` and of `dynamics`, normalised units.
    """
    x0, conditions = conditions_of_batch(config, statistics, batch)

    def draw(key: Array) -> tuple[Array, Array, Array]:
        level, noise, hidden = jax.random.split(key, 3)
        level = 1 + jnp.floor(jax.random.uniform(level, (), x0.dtype) * config.timesteps)
        return level, jax.random.normal(noise, x0.shape[1:], x0.dtype), hidden

    level, eps, hidden = jax.vmap(draw)(keys)
    noisy = q_sample(cosine(config.timesteps), x0, level, eps)
    predicted = predict(config, params, noisy, level, hide(config, conditions, hidden))
    error = jnp.square(predicted - x0)
    return error.mean(), {"pose": error[..., :POSE_DIM].mean(), "dynamics": error[..., POSE_DIM:].mean()}


def _augmented(
    config: SoundAugmentationConfig, samples: Float[Array, "b n"], keys: Key[Array, " b"]
) -> tuple[Float[Array, "b n"], Bool[Array, " b"]]:
    """Other sound, and which samples know their loudness; each by a key of its own."""

    def one(key: Array, samples: Array) -> tuple[Array, Array]:
        sound, settled = jax.random.split(jax.random.fold_in(key, SOUND))
        return augment(config, sound, samples), jax.random.uniform(settled) < config.settled

    return jax.vmap(one)(keys, samples)
