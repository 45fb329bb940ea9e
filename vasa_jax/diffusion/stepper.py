"""A sampler: a stepper, driven down the noise levels by one scan.

A stepper knows how to go from x at one level to x at the following one, given the denoiser's x0, and what to remember
on the way; it knows neither networks nor conditions. `diffusion.ddim` and `diffusion.dpm_solver` are steppers.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vasa_jax.diffusion.schedule import Schedule, trailing_levels

Carry = Any
"""What a stepper remembers between steps, a pytree of fixed shapes."""


@runtime_checkable
class Stepper(Protocol):
    """One step of a sampler. Steppers are frozen values, so that programs are told apart by them."""

    @property
    def fresh(self) -> bool:
        """Whether steps draw noise, by keys that they then must be given."""
        ...

    def init(self, x: Float[Array, " b *rest"]) -> Carry:
        """What is remembered before the first step."""
        ...

    def step(
        self,
        schedule: Schedule,
        carry: Carry,
        x: Float[Array, " b *rest"],
        x0: Float[Array, " b *rest"],
        level: Float[Array, " b"],
        following: Float[Array, " b"],
        keys: Key[Array, " b"] | None,
    ) -> tuple[Carry, Float[Array, " b *rest"]]:
        """x at the following level.

        Args:
            schedule: gives signal and noise of a level.
            carry: from the step before.
            x: sample at `level`.
            x0: the denoiser's prediction of clean data there.
            level: in (0, T].
            following: in [0, level]; at 0 the result is x0.
            keys: of this step, one a sample, where it draws noise.
        """
        ...


def sample(
    denoise: Callable[[Array, Array], Array],
    noise: Float[Array, " b *rest"],
    schedule: Schedule,
    steps: int,
    stepper: Stepper,
    keys: Key[Array, " b"] | None = None,
) -> Float[Array, " b *rest"]:
    """Turn noise into data: `steps` evaluations of the denoiser, at trailing levels, in one `lax.scan`.

    Args:
        denoise: (x (b, ...), level (b,)) -> x0 (b, ...).
        noise: standard normal start; its dtype is the sampler's.
        schedule: the one the denoiser was trained with.
        steps: 1 or more; with 1 the result is denoise(noise, T).
        stepper: how to go from level to level.
        keys: one a sample, for steppers that draw noise; step i of sample j has the key fold_in(keys[j], i), so neither
            the batch nor the order of evaluation matters.

    Raises:
        ValueError: steps below 1, or no keys for a stepper that draws noise.
    """
    if stepper.fresh and keys is None:
        raise ValueError(f"{stepper} draws fresh noise: pass one key a sample")
    levels = jnp.asarray(trailing_levels(schedule, steps), noise.dtype)
    batch, draws = noise.shape[0], keys if stepper.fresh else None

    def body(state: tuple[Carry, Array], row: tuple[Array, Array, Array]) -> tuple[tuple[Carry, Array], None]:
        (carry, x), (index, level, following) = state, row
        here, there = jnp.full((batch,), level), jnp.full((batch,), following)
        drawn = None if draws is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(draws, index)
        return stepper.step(schedule, carry, x, denoise(x, here), here, there, drawn), None

    (_, x), _ = jax.lax.scan(body, (stepper.init(noise), noise), (jnp.arange(steps), levels[:-1], levels[1:]))
    return x
