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
from vasa_jax.audio.loudness import unheard
from vasa_jax.diffusion.process import q_sample
from vasa_jax.diffusion.schedule import cosine
from vasa_jax.motion.audio_features import hear, slice_samples
from vasa_jax.motion.conditions import Conditions, hide
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import predict
from vasa_jax.motion.statistics import Statistics, normalise

SOUND = 1
"""Folded into a sample's key for the augmentation of its sound."""


def batch_spec(config: MotionConfig, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What a batch holds, all float32: K + W consecutive frames of one clip and their sound, raw units.

    motion_pose (b, K + W, 6), motion_dynamics (b, K + W, z); gaze (b, 2) radians, distance (b, 1) log distance, emotion
    (b, 8), of the window, NaN where unlabelled; and, by audio.kind, samples (b, 640 (K + W) + 352), starting 256
    samples before the first frame, or audio_features (b, K + W, feature_dim); NaN where a clip has no sound.
    """
    frames = config.context + config.window
    shapes = {
        "motion_pose": (frames, POSE_DIM),
        "motion_dynamics": (frames, config.dynamics_dim),
        "gaze": (2,),
        "distance": (1,),
        "emotion": (len(EMOTIONS),),
    }
    if config.audio.kind == "mel":
        shapes["samples"] = (slice_samples(frames),)
    else:
        shapes["audio_features"] = (frames, config.audio.feature_dim)
    return {name: jax.ShapeDtypeStruct((batch_size, *shape), jnp.float32) for name, shape in shapes.items()}


def conditions_of_batch(
    config: MotionConfig, statistics: Statistics, batch: dict[str, Array], settled: Bool[Array, " b"] | None = None
) -> tuple[Float[Array, "b w d"], Conditions]:
    """The window's normalised motion x0, and conditions in which all that a batch knows is known.

    Args:
        config: sizes.
        statistics: of the training set.
        batch: as `batch_spec` says.
        settled: where the loudness of a sample is known at its first frame, by hearing the sample before; else every
            sample begins like a recording.

    Raises:
        ValueError: a batch without an entry of `batch_spec`, or with one of another shape.
    """
    for name, spec in batch_spec(config, len(batch["motion_pose"])).items():
        if name not in batch:
            raise ValueError(f"the batch has no {name!r}, which audio.kind={config.audio.kind!r} needs; see batch_spec")
        if batch[name].shape != spec.shape:
            raise ValueError(f"batch[{name!r}] has shape {batch[name].shape}; this config needs {spec.shape}")
    k = config.context
    motion = normalise(statistics, Motion(batch["motion_pose"], batch["motion_dynamics"]))
    sound = _heard(batch["samples"], settled) if config.audio.kind == "mel" else batch["audio_features"]
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
    augmentation: SoundAugmentationConfig | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Equation (1) for one batch.

    Args:
        config: sizes and drop rates.
        params: of the denoiser.
        statistics: of the training set; constants.
        batch: as `batch_spec` says.
        keys: one a sample.
        augmentation: of the sound; None in validation.

    Returns:
        The mean over samples, and its parts: mean squared error of `pose` and of `dynamics`, normalised units.
    """
    settled = None
    if augmentation is not None and (augmentation.share or augmentation.settled):
        batch, settled = _augmented(augmentation, batch, keys)
    x0, conditions = conditions_of_batch(config, statistics, batch, settled)

    def draw(key: Array) -> tuple[Array, Array, Array]:
        level, noise, hidden = jax.random.split(key, 3)
        level = 1 + jnp.floor(jax.random.uniform(level, (), x0.dtype) * config.timesteps)
        return level, jax.random.normal(noise, x0.shape[1:], x0.dtype), hidden

    level, eps, hidden = jax.vmap(draw)(keys)
    noisy = q_sample(cosine(config.timesteps), x0, level, eps)
    predicted = predict(config, params, noisy, level, hide(config, conditions, hidden))
    error = jnp.square(predicted - x0)
    return error.mean(), {"pose": error[..., :POSE_DIM].mean(), "dynamics": error[..., POSE_DIM:].mean()}


def _heard(samples: Float[Array, "b n"], settled: Bool[Array, " b"] | None) -> Float[Array, "b t mels bands"]:
    """Log-mel of samples, each from a loudness of which nothing or, where `settled`, its own is known."""
    state = unheard(len(samples), samples.dtype)
    if settled is not None:
        after, _ = hear(state, samples)
        state = jax.tree.map(lambda known, nothing: jnp.where(settled, known, nothing), after, state)
    return hear(state, samples)[1]


def _augmented(
    config: SoundAugmentationConfig, batch: dict[str, Array], keys: Key[Array, " b"]
) -> tuple[dict[str, Array], Bool[Array, " b"]]:
    """The batch with another sound, and which samples know their loudness; each by a key of its own."""

    def one(key: Array, samples: Array) -> tuple[Array, Array]:
        sound, settled = jax.random.split(jax.random.fold_in(key, SOUND))
        return augment(config, sound, samples), jax.random.uniform(settled) < config.settled

    samples, settled = jax.vmap(one)(keys, batch["samples"])
    return batch | {"samples": samples}, settled
