"""A motion transformer small enough for tests, and data for it."""

import dataclasses

import jax
import jax.numpy as jnp

from vasa_jax.audio.front_end import AudioEncoderConfig
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.objective import batch_spec
from vasa_jax.motion.statistics import Statistics

TINY = MotionConfig(
    width=16,
    num_layers=2,
    num_heads=2,
    ffn=24,
    window=6,
    context=3,
    dynamics_dim=4,
    audio=AudioEncoderConfig(kind="mel", feature_dim=8),
)
ANCHORED = dataclasses.replace(TINY, anchor=True, head_cutoff=4.0)
STATISTICS = Statistics(jnp.zeros(6), jnp.ones(6), jnp.zeros(4), jnp.eye(4), jnp.ones(4))


def params(config=TINY):
    return initialise(config, jax.random.key(0))


def batch(size, config=TINY, seed=0, heard=False):
    """Random numbers in the shape of a batch."""
    spec = batch_spec(config, size, heard)
    keys = jax.random.split(jax.random.key(seed), len(spec))
    return {name: 0.1 * jax.random.normal(key, spec[name].shape) for name, key in zip(spec, keys, strict=True)}
