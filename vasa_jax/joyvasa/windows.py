"""Sound of any length to motion: windows of 4 s, each begun from the last ten frames of the one before.

JoyVASA puts 1280 zeros before the sound and 640 behind it, fills the last window up, encodes each window by itself and
drops the frames of the filling: frame k of the motion belongs to the sound at 40 k - 80 ms. Every window starts from
the *same* noise x_T; the noise of the steps is fresh. `next_window` is the only program: a live caller feeds it window
by window and gets the same numbers as `generate`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vasa_jax.arrays import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError
from vasa_jax.joyvasa.motion_generator import RELEASED, MotionGenerator, MotionGeneratorConfig
from vasa_jax.joyvasa.sampling import GUIDANCE, sample

MARGINS = (1280, 640)
"""Zeros before and behind the sound."""
FILLS = ("zero", "replicate")


class Carry(NamedTuple):
    """What a window leaves to the next: its last frames of normalised motion (1, p, d) and audio features (1, p, c)."""

    motion: Any
    audio: Any


class Noise(NamedTuple):
    """All standard normal.

    start: x_T of every window, (1, w, d). steps: from a window's number to its step noise (T, 1, w, d), that of step t
    at index t - 1.
    """

    start: Any
    steps: Callable[[int], Any]


def gaussian_noise(key: Key[Array, ""], config: MotionGeneratorConfig = RELEASED) -> Noise:
    """Standard normal noise, window i's from fold_in(key, i + 1): drawn when asked for, in any order."""
    shape = (1, config.window, config.motion)

    def steps(window: int) -> Array:
        return jax.random.normal(jax.random.fold_in(key, window + 1), (config.steps, *shape))

    return Noise(jax.random.normal(jax.random.fold_in(key, 0), shape), steps)


def split_audio(
    audio: Float[np.ndarray, " n"],
    window: int = RELEASED.window,
    margins: tuple[int, int] = MARGINS,
    fill: str = "zero",
) -> tuple[Float[np.ndarray, "windows samples"], int]:
    """Cut sound into windows.

    Args:
        audio: 16 kHz, in [-1, 1].
        window: frames of one.
        margins: zeros before and behind the sound; (0, 0) as some ports of JoyVASA have it.
        fill: what fills the last window, "zero" or "replicate" (the last sample, which a margin behind makes zero).

    Returns:
        Windows of 640 `window` samples, and the number of frames of motion that belong to the sound.

    Raises:
        UserError: another fill, or no sound at all.
    """
    if fill not in FILLS:
        raise UserError(f"unknown {fill=}; choose one of {', '.join(FILLS)}")
    sound = np.pad(audio, margins)
    if not len(sound):
        raise UserError("there is no sound: not one sample")
    # In floating point, as JoyVASA counts: rarely a frame less than there is, and the window it would begin.
    count = max(1, math.ceil(int(len(sound) / SAMPLE_RATE * FPS) / window))
    samples = window * SAMPLES_PER_FRAME * count
    missing = max(0, samples - len(sound))
    sound = np.pad(sound[:samples], (0, missing), mode="edge" if fill == "replicate" else "constant")
    return sound.reshape(count, -1), window * count - math.ceil(missing / SAMPLES_PER_FRAME)


def start(variables: Mapping[str, Any]) -> Carry:
    """The learned frames before the first window."""
    return Carry(variables["params"]["start_motion"], variables["params"]["start_audio"])


@functools.partial(jax.jit, static_argnames=("position_mode", "config"))
def next_window(
    variables: Mapping[str, Any],
    carry: Carry,
    audio: Float[Array, "1 samples"],
    start_noise: Float[Array, "1 w d"],
    step_noise: Float[Array, "steps 1 w d"],
    guidance: float | Float[Array, ""] = GUIDANCE,
    position_mode: str = "constant",
    config: MotionGeneratorConfig = RELEASED,
) -> tuple[Carry, Float[Array, "1 w d"]]:
    """Motion of one window of sound; arguments as in `sampling.sample`."""
    features = jnp.asarray(MotionGenerator(config).apply(variables, audio, method="audio_features"))
    motion = sample(variables, features, start_noise, step_noise, carry, guidance, position_mode, config)
    return Carry(motion[:, -config.previous :], features[:, -config.previous :]), motion


def generate(
    variables: Mapping[str, Any],
    audio: Float[np.ndarray, " n"],
    noise: Noise,
    guidance: float = GUIDANCE,
    position_mode: str = "constant",
    margins: tuple[int, int] = MARGINS,
    fill: str = "zero",
    config: MotionGeneratorConfig = RELEASED,
) -> Float[np.ndarray, "t d"]:
    """Normalised motion of sound, 25 frames a second; `template.denormalise` gives it units.

    Args:
        variables: of `MotionGenerator(config)`.
        audio: 16 kHz mono, in [-1, 1], not normalised.
        noise: of `gaussian_noise`, or given.
        guidance: how much the sound counts; 1 is no guidance.
        position_mode: "constant", as the released weights were trained, or "per_position".
        margins: zeros before and behind the sound.
        fill: what fills the last window, "zero" or "replicate".
        config: sizes.

    Raises:
        UserError: another position mode or fill, or no sound.
    """
    windows, frames = split_audio(audio, config.window, margins, fill)
    variables = jax.device_put(variables)
    carry, motions = start(variables), []
    for i, window in enumerate(windows):
        carry, motion = next_window(
            variables,
            carry,
            jnp.asarray(window[None], jnp.float32),
            jnp.asarray(noise.start),
            jnp.asarray(noise.steps(i)),
            guidance,
            position_mode,
            config,
        )
        motions.append(np.asarray(motion[0]))
    return np.concatenate(motions)[:frames]
