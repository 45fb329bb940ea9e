"""The stage-2 objective: a clip of motion and its sound in, one number out (VASA-1 section 3.2).

    L = E || x0 - H(x_t, t, C) ||^2,   t uniform in 1..T,   x_t as in `diffusion.process`,       (1)

the mean over W frames and 6 + z normalised components, with conditions hidden at random (`conditions.hide`). Every
random number of a sample comes from its own key, and no sample sees another.

Three things of ours make windows join; docs/training.md tells what each was measured to do. Where the last frame of
context is known, errors e of the first frames count more, and so do errors of steps, the one into the window too (as
the velocities of Tevet et al. 2023, "Human Motion Diffusion Model", equation 5):

    L = E mean_k (1 + F exp(-k / f)) e_k^2  +  V mean_k (e_k - e_{k-1})^2,      e_{-1} = 0.       (2)

And the context of training is true, that of a session is not: it strays from what the sound asks for. So in half of the
samples the dynamics of all context frames are off by one random d, a share of what each component moves within the
window, and x0 returns to the truth from there, as d exp(-(k + 1) / s) (`stray`): the network learns to leave from where
it is told to be, whatever it thinks of it.
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

SOUND, STRAY = 1, 3
"""Folded into a sample's key for the augmentation of its sound, and for how far its context strays."""
FIRST, FIRST_FRAMES = 4.0, 4.0
"""F and f of equation (2); V is `MotionConfig.velocity`."""
STRAY_SHARE, STRAY_SIZE, STRAY_FRAMES = 0.5, 0.4, 6.0
"""Share of the samples whose context strays; deviation of d, in deviations within the window; and s, in frames."""


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
    """Equation (2) for one batch.

    Args:
        config: sizes and drop rates.
        params: of the denoiser.
        statistics: of the training set; constants.
        batch: as `conditions_of_batch` takes it.
        keys: one a sample.

    Returns:
        The mean over samples, and of it the part of equation (1): mean squared errors of `pose` and of `dynamics`,
        normalised units.
    """
    x0, conditions = conditions_of_batch(config, statistics, batch)

    def draw(key: Array) -> tuple[Array, Array, Array]:
        level, noise, hidden = jax.random.split(key, 3)
        level = 1 + jnp.floor(jax.random.uniform(level, (), x0.dtype) * config.timesteps)
        return level, jax.random.normal(noise, x0.shape[1:], x0.dtype), hidden

    level, eps, hidden = jax.vmap(draw)(keys)
    conditions = hide(config, conditions, hidden)
    x0, conditions = stray(x0, conditions, keys)
    noisy = q_sample(cosine(config.timesteps), x0, level, eps)
    error = predict(config, params, noisy, level, conditions) - x0
    joined = conditions.previous_motion_mask[:, -1].astype(error.dtype)[:, None, None]
    frames = jnp.arange(config.window, dtype=error.dtype)[None, :, None]
    weight = 1 + FIRST * jnp.exp(-frames / FIRST_FRAMES) * joined
    steps = jnp.concatenate([joined * error[:, :1], jnp.diff(error, axis=1)], axis=1)
    square = jnp.square(error)
    value = (weight * square).mean() + config.velocity * jnp.square(steps).mean()
    return value, {"pose": square[..., :POSE_DIM].mean(), "dynamics": square[..., POSE_DIM:].mean()}


def stray(
    x0: Float[Array, "b w d"], conditions: Conditions, keys: Key[Array, " b"]
) -> tuple[Float[Array, "b w d"], Conditions]:
    """A window that returns to the truth from a context whose dynamics are off, in `STRAY_SHARE` of the samples; where
    the last frame of context is unknown, the window is that of the truth."""

    def draw(key: Array) -> Array:
        share, size = jax.random.split(jax.random.fold_in(key, STRAY))
        off = STRAY_SIZE * jax.random.normal(size, x0.shape[2:], x0.dtype).at[:POSE_DIM].set(0)
        return jnp.where(jax.random.uniform(share) < STRAY_SHARE, off, 0)

    off = (jax.vmap(draw)(keys) * x0.std(1))[:, None]
    left = jnp.exp(-(1 + jnp.arange(x0.shape[1], dtype=x0.dtype)) / STRAY_FRAMES)[None, :, None]
    x0 = x0 + jnp.where(conditions.previous_motion_mask[:, -1:, None], left * off, 0)
    return x0, conditions._replace(previous_motion=conditions.previous_motion + off)


def _augmented(
    config: SoundAugmentationConfig, samples: Float[Array, "b n"], keys: Key[Array, " b"]
) -> tuple[Float[Array, "b n"], Bool[Array, " b"]]:
    """Other sound, and which samples know their loudness; each by a key of its own."""

    def one(key: Array, samples: Array) -> tuple[Array, Array]:
        sound, settled = jax.random.split(jax.random.fold_in(key, SOUND))
        return augment(config, sound, samples), jax.random.uniform(settled) < config.settled

    return jax.vmap(one)(keys, samples)
