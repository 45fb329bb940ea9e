"""The frozen network that stage 2 hears through, in training: found, hashed, and put to work on whole clips.

A config names its weights (`model.audio.weights`); a run's config, checkpoints and release carry their SHA-256 and
never the weights.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vasa_jax.arrays import SAMPLES_PER_FRAME
from vasa_jax.audio.front_end import AudioEncoderConfig, front_end, slice_samples
from vasa_jax.audio.weights import read_speech
from vasa_jax.checkpoint import digest
from vasa_jax.convert.hub import SPEECH, find_speech
from vasa_jax.errors import UserError
from vasa_jax.training.config import Experiment, MotionExperiment

PIECE = 40
"""Frames of a clip that are heard at once."""

Features = Callable[[Any, int], Any]
"""(samples (n,) of a clip, its frames t) to features (t, c), float16, NumPy."""


def load_speech(audio: AudioEncoderConfig) -> dict[str, Any]:
    """The parameters of the frozen network of a front end; {} where there is none.

    Raises:
        UserError: no weights are named, they are not there, or they are others than the config says.
    """
    if not audio.frozen:
        return {}
    if not audio.weights:
        raise UserError(
            f"model.audio.weights is empty: name a folder that vasa-convert speech wrote, or NAME/REPO of the Hub such "
            f"as {SPEECH[audio.kind]}"
        )
    return read_speech(find_speech(audio.weights, audio.kind, _say), audio)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def with_speech(experiment: Experiment) -> Experiment:
    """The experiment with the SHA-256 of its frozen speech network, if it has one; raises as `load_speech`."""
    if not isinstance(experiment, MotionExperiment) or not experiment.model.audio.frozen:
        return experiment
    audio = experiment.model.audio
    audio = dataclasses.replace(audio, sha256=digest(load_speech(audio)))
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, audio=audio))


def clip_features(audio: AudioEncoderConfig, params: Any) -> Features:
    """What makes the features of whole clips, piece by piece, as a session hears them from their beginning.

    Args:
        audio: of a frozen network.
        params: its parameters.

    Returns:
        See `Features`; sound that ends before its frames is followed by zeros.
    """
    front = front_end(audio)
    piece = front.block * max(1, PIECE // front.block)
    params, hear = jax.device_put(params), jax.jit(front.hear)
    size = slice_samples(front, piece)

    def features(samples: np.ndarray, frames: int) -> np.ndarray:
        missing = max(0, SAMPLES_PER_FRAME * frames - len(samples))
        sound = np.pad(np.asarray(samples, np.float32), (front.lead, missing + size))[None]
        state, parts = front.start(1), []
        for first in range(0, frames, piece):
            state, part = hear(params, state, sound[:, SAMPLES_PER_FRAME * first :][:, :size])
            parts.append(np.asarray(part[0], np.float16))
        return np.concatenate(parts)[:frames]

    return features
