"""A front end of each kind, small enough for tests, with weights for it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.joyvasa.tiny import SPEECH
from vasa_jax.audio.front_end import AudioEncoderConfig, FrontEnd, front_end
from vasa_jax.audio.weights import speech_shapes

MEL = AudioEncoderConfig(kind="mel", feature_dim=8)
WAV2VEC2 = AudioEncoderConfig(kind="wav2vec2", feature_dim=16, block=2, past=3, ahead=1, speech=SPEECH)
HUBERT = AudioEncoderConfig(kind="hubert", feature_dim=16, layer="mean", block=1, past=2, ahead=0, speech=SPEECH)
KINDS = (MEL, WAV2VEC2, HUBERT)


@functools.cache
def speech_params(seed: int = 0) -> dict[str, Any]:
    """Random parameters of the small network; kernels keep the variance."""
    random = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name in ("scale", "bias"):
            return np.full(leaf.shape, name == "scale", np.float32)
        fan_in = max(1, int(np.prod(leaf.shape[-3:-1])))
        return (random.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, speech_shapes(SPEECH))


def weights(config: AudioEncoderConfig) -> dict[str, Any]:
    """Of a front end."""
    return speech_params() if config.frozen else {}


@functools.cache
def compiled(config: AudioEncoderConfig) -> tuple[FrontEnd, Any]:
    """The front end of a config, and its `hear` as a compiled function of state and samples."""
    front = front_end(config)
    hear = jax.jit(front.hear, static_argnames="hop")
    return front, lambda state, samples, hop=None: hear(weights(config), state, jnp.asarray(samples), hop=hop)
