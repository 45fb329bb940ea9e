"""DDIM (Song et al. 2021, "Denoising Diffusion Implicit Models", equations 12 and 16), as a stepper.

With a, s at the present level t, a', s' at the following one t' < t, and x0 the denoiser's answer at t,

    eps   = (x - a x0) / s,
    sigma = eta (s' / s) sqrt(1 - a^2 / a'^2),                                                   (1)
    x'    = a' x0 + sqrt(s'^2 - sigma^2) eps + sigma z,    z standard normal.

eta = 0 follows the probability-flow ODE and needs no randomness after the start; eta = 1 is ancestral (DDPM) sampling.
At t' = 0, a' = 1 and s' = 0 exactly, so the last step returns x0 itself.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vasa_jax.diffusion.process import factors
from vasa_jax.diffusion.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Ddim:
    """Equation (1); see `stepper.Stepper`. It remembers nothing.

    eta: share of fresh noise, in [0, 1] (ValueError).
    """

    eta: float = 0.0

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta} must be in [0, 1]: 0 is deterministic, 1 is ancestral sampling")

    @property
    def fresh(self) -> bool:
        """Whether steps draw noise."""
        return self.eta > 0

    def init(self, x: Float[Array, " b *rest"]) -> tuple[()]:
        """Nothing."""
        del x
        return ()

    def step(
        self,
        schedule: Schedule,
        carry: tuple[()],
        x: Float[Array, " b *rest"],
        x0: Float[Array, " b *rest"],
        level: Float[Array, " b"],
        following: Float[Array, " b"],
        keys: Key[Array, " b"] | None = None,
    ) -> tuple[tuple[()], Float[Array, " b *rest"]]:
        """From `level` down to `following`."""
        signal, noise = factors(schedule, level, x)
        signal_next, noise_next = factors(schedule, following, x)
        eps = (x - signal * x0) / noise
        if not self.eta:
            return carry, signal_next * x0 + noise_next * eps
        z = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
        # sigma = s' eta root; written with squares so that the part left for eps cannot turn negative by rounding
        share = jnp.clip(self.eta**2 * (1 - jnp.square(signal / signal_next)) / jnp.square(noise), 0, 1)
        return carry, signal_next * x0 + noise_next * (jnp.sqrt(1 - share) * eps + jnp.sqrt(share) * z)
