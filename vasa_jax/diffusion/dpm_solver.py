"""DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", algorithm 2: multistep, second order, data prediction).

With l = log(a / s) half of the log signal-to-noise ratio, h = l' - l the present step in it, h_0 the one before, x0 and
x0_0 the denoiser's answers here and one step before,

    D  = x0 + h / (2 h_0) (x0 - x0_0),        x' = (s' / s) x - a' (exp(-h) - 1) D.              (1)

D is x0, extrapolated to the middle of the step. The first step has no step before it, the last one goes to s' = 0,
where h is infinite and x' = a' D: both take D = x0 (DDIM with eta = 0), so the last step returns x0 itself. Levels are
those of every sampler here, evenly spaced in time, not in l: near T, where a vanishes and l runs off, the answer hardly
depends on x, and near 0 what one step leaves out is of second order in its noise.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vasa_jax.diffusion.process import factors
from vasa_jax.diffusion.schedule import Schedule


class Before(NamedTuple):
    """What the step before leaves. x0: the answer then. h: its step in l, (b, 1, ...); infinite before the first."""

    x0: Array
    h: Array


@dataclasses.dataclass(frozen=True)
class DpmSolver:
    """Equation (1); see `stepper.Stepper`."""

    fresh: bool = dataclasses.field(default=False, init=False)

    def init(self, x: Float[Array, " b *rest"]) -> Before:
        """No step before."""
        return Before(jnp.zeros_like(x), jnp.full((x.shape[0],) + (1,) * (x.ndim - 1), jnp.inf, x.dtype))

    def step(
        self,
        schedule: Schedule,
        carry: Before,
        x: Float[Array, " b *rest"],
        x0: Float[Array, " b *rest"],
        level: Float[Array, " b"],
        following: Float[Array, " b"],
        keys: Key[Array, " b"] | None = None,
    ) -> tuple[Before, Float[Array, " b *rest"]]:
        """From `level` down to `following`."""
        del keys
        signal, noise = factors(schedule, level, x)
        signal_next, noise_next = factors(schedule, following, x)
        last = noise_next == 0
        h = jnp.log(signal_next / jnp.where(last, 1, noise_next)) - jnp.log(signal / noise)
        ahead = jnp.where(last, 0, h / (2 * carry.h)) * (x0 - carry.x0)
        # a' exp(-h) = a s' / s
        moved = noise_next / noise * (x - signal * (x0 + ahead)) + signal_next * (x0 + ahead)
        return Before(x0, h), moved
