"""The stage-2 objective: a clip of motion and its sound in, one number out (VASA-1 section 3.2).

    L = E || x0 - H(x_t, t, C) ||^2,   t uniform in 1..T,   x_t as in `diffusion.process`,       (1)

the mean over W frames and 6 + z normalised components, with conditions hidden at random (`conditions.hide`). Every
random number of a sample comes from its own key, and no sample sees another.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vasa_jax.arrays import EMOTIONS, POSE_DIM, Motion
from vasa_jax.diffusion.process import q_sample
from vasa_jax.diffusion.schedule import cosine
from vasa_jax.motion.audio_features import log_mel, slice_samples
from vasa_jax.motion.conditions import Conditions, hide
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import predict
from vasa_jax.motion.statistics import Statistics, normalise


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
    config: MotionConfig, statistics: Statistics, batch: dict[str, Array]
) -> tuple[Float[Array, "b w d"], Conditions]:
    """The window's normalised motion x0, and conditions in which all that a batch knows is known.

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
    sound = log_mel(batch["samples"]) if config.audio.kind == "mel" else batch["audio_features"]
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
        batch: as `batch_spec` says.
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
