"""A motion generator of few numbers, and what it needs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.audio.speech import SpeechConfig
from vasa_jax.joyvasa import MotionGenerator, MotionGeneratorConfig, sample

SPEECH = SpeechConfig(channels=8, width=16, layers=2, heads=2, hidden=32, position_taps=4, position_groups=2)
TINY = MotionGeneratorConfig(motion=5, window=6, previous=2, width=16, heads=4, layers=3, steps=4, speech=SPEECH)
SAMPLES = 640 * TINY.window
NETWORK = MotionGenerator(TINY)
SAMPLE = jax.jit(functools.partial(sample, config=TINY), static_argnames="position_mode")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def variables():
    """Random ones, with every parameter away from zero."""
    audio, x = jnp.zeros((1, SAMPLES)), jnp.zeros((1, TINY.window, TINY.motion))
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), audio, x)
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * random.normal(size=leaf.shape), jnp.float32), shapes)


@functools.cache
def method(name, **static):
    """A method of the network as a compiled function of variables and inputs."""
    return jax.jit(lambda tree, *inputs: NETWORK.apply(tree, *inputs, **static, method=name))
