"""Noise schedule: how much of the data is left at each noise level.

Nichol and Dhariwal 2021 ("Improved Denoising Diffusion Probabilistic Models"), equation 17. With t a level in 0..T,

    abar(t) = f(t) / f(0),   f(t) = cos^2( pi / 2 (t / T + o) / (1 + o) ),   o = 0.008,
    beta(t) = min(1 - abar(t) / abar(t - 1), 0.999),                                             (1)

and abar(t) is then the product of (1 - beta) up to t, so that the clip keeps abar(T) above zero (2.4e-9 for T = 1000).
VASA-1 does not print its schedule; T = 1000 and the cosine are our choice. A noisy sample is

    x(t) = a(t) x0 + s(t) eps,   a = sqrt(abar),   s = sqrt(1 - abar).                           (2)

Level 0 is clean data: a = 1 and s = 0 exactly. The table holds log abar, so that s = sqrt(-expm1(log abar)) keeps its
digits at small t, and levels between two whole ones are interpolated in it: any number of sampling steps is then legal.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Schedule(NamedTuple):
    """Table of log abar at the whole levels 0..T, shape (T + 1,), float64 on the host; the first entry is 0."""

    log_signal: np.ndarray | Array

    @property
    def timesteps(self) -> int:
        """T, the highest level."""
        return self.log_signal.shape[0] - 1


def cosine(timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """Cosine schedule, equation (1).

    Args:
        timesteps: T, at least 1.
        offset: o; keeps beta(1) from vanishing.
        max_beta: the clip of beta, in (0, 1).

    Raises:
        ValueError: timesteps below 1.
    """
    if timesteps < 1:
        raise ValueError(f"{timesteps=} must be at least 1")
    angle = (np.arange(timesteps + 1) / timesteps + offset) / (1 + offset) * (np.pi / 2)
    left = np.cos(angle) ** 2
    beta = np.minimum(1 - left[1:] / left[:-1], max_beta)
    return Schedule(np.concatenate([np.zeros(1), np.cumsum(np.log1p(-beta))]))


def signal_and_noise(schedule: Schedule, level: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], ...]:
    """The factors a(t) and s(t) of equation (2) at levels in [0, T], whole or not, in the dtype of `level`."""
    table = jnp.asarray(schedule.log_signal, level.dtype)
    whole = jnp.clip(jnp.floor(level), 0, schedule.timesteps)
    index = whole.astype(jnp.int32)
    low, high = table[index], table[jnp.minimum(index + 1, schedule.timesteps)]
    log_signal = low + (level - whole) * (high - low)
    return jnp.exp(log_signal / 2), jnp.sqrt(-jnp.expm1(log_signal))


def trailing_levels(schedule: Schedule, steps: int) -> Float[np.ndarray, " levels"]:
    """The levels a sampler visits: steps + 1 numbers, evenly from exactly T down to exactly 0 (trailing spacing).

    Lin et al. 2023 ("Common Diffusion Noise Schedules and Sample Steps Are Flawed") is why the first is T: a sampler
    that starts below T sees pure noise where training showed it some signal. They are whole when steps divides T.

    Raises:
        ValueError: steps below 1.
    """
    if steps < 1:
        raise ValueError(f"{steps=} must be at least 1")
    return np.linspace(schedule.timesteps, 0, steps + 1)
