"""Loudness: speech of any level is heard at one level, causally, video frame by video frame.

A recording's level says where the microphone stood, not what was said. So every frame gets a gain that brings the
speech heard so far to `TARGET`. With l_i the level of frame i in the band of speech, the tracker keeps the level n of
the noise, the level s of the speech and how much speech w that rests on:

    n <- min(l, n + RISE)                     what the pauses fall to
    p  = clip((l - n - GATE) / RAMP, 0, 1)    how surely the frame is speech
    w <- min(w + p, MEMORY)
    s <- s + p (l - s) / w                    a mean over speech at first, then an exponential one
    gain = clip(TARGET - s, -LIMIT, LIMIT)    in dB                                                                (1)

Digital silence changes nothing. Noise alone and pauses leave the gain as it is, so they are not pumped up. s starts at
`TARGET` with the weight `PRIOR`. Gating by level over noise follows ITU-R BS.1770-5 in spirit; the means are of
decibels, so that one bang weighs little.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.arrays import SAMPLE_RATE

BAND = (200.0, 5000.0)
"""Hz that count: above hum and rumble, below hiss."""
TARGET = -24.0
"""Level of speech after the gain, dB of a full-scale square wave (a full-scale sine has -3)."""
LIMIT = 36.0
"""Largest gain and attenuation, dB."""
SILENCE = -80.0
"""Levels below this are digital silence, dB."""
RISE = 0.1
"""By how much the noise may rise in one frame, dB."""
GATE = 6.0
"""Frames less than this over the noise are no speech, dB."""
RAMP = 6.0
"""Frames that are this much further over the noise are speech for sure, dB."""
PRIOR = 4.0
"""Frames of speech that the start at `TARGET` is worth."""
MEMORY = 100.0
"""Frames of speech behind the level: 4 s."""


class Loudness(NamedTuple):
    """What is known of a recording so far, (b,) floats each: the state of equation (1).

    noise: n, dB. speech: s, dB. heard: w, frames of speech, at most `MEMORY`.
    """

    noise: Any
    speech: Any
    heard: Any


def unheard(batch: int, dtype: DTypeLike = np.float32) -> Loudness:
    """Recordings of which nothing has been heard."""
    return Loudness(*(np.full(batch, value, dtype) for value in (0.0, TARGET, PRIOR)))


def level(power: Float[Array, "*n bins"]) -> Float[Array, "*n"]:
    """Level in `BAND` of Hann-windowed power spectra |X_k|^2 of an even number of samples, dB; at least -120.

    White noise of deviation d has 20 log10(d) + 10 log10(0.6), a sine of amplitude a in the band 20 log10(a) - 3.
    """
    size = 2 * (power.shape[-1] - 1)
    hertz = np.arange(power.shape[-1]) * SAMPLE_RATE / size
    weights = 2.0 / (size * 0.375 * size) * ((hertz >= BAND[0]) & (hertz <= BAND[1]))
    square = jnp.matmul(power, jnp.asarray(weights, power.dtype), precision=jax.lax.Precision.HIGHEST)
    return 10.0 * jnp.log10(jnp.maximum(square, 1e-12))


def track(state: Loudness, levels: Float[Array, "b t"]) -> tuple[Loudness, Float[Array, "b t"]]:
    """Equation (1) over t frames.

    Args:
        state: after the frame before.
        levels: of the frames, dB.

    Returns:
        The state after them, and the gain of each frame in dB; frame i depends on no later one.
    """

    def frame(state: Loudness, now: Array) -> tuple[Loudness, Array]:
        sounding = now > SILENCE
        noise = jnp.where(sounding, jnp.minimum(now, state.noise + RISE), state.noise)
        surely = jnp.where(sounding, jnp.clip((now - noise - GATE) / RAMP, 0.0, 1.0), 0.0)
        heard = jnp.minimum(state.heard + surely, MEMORY)
        speech = state.speech + surely * (now - state.speech) / heard
        return Loudness(noise, speech, heard), jnp.clip(TARGET - speech, -LIMIT, LIMIT)

    state, gains = jax.lax.scan(frame, jax.tree.map(jnp.asarray, state), levels.T)
    return state, gains.T
