"""DDIM (Song et al. 2021, "Denoising Diffusion Implicit Models", equations 12 and 16), as one scan over noise levels.

With a, s at the present level t, a', s' at the following one t' < t, and x0 the denoiser's answer at t,

    eps   = (x - a x0) / s,
    sigma = eta (s' / s) sqrt(1 - a^2 / a'^2),                                                   (1)
    x'    = a' x0 + sqrt(s'^2 - sigma^2) eps + sigma z,    z standard normal.

eta = 0 follows the probability-flow ODE and needs no randomness after the start; eta = 1 is ancestral (DDPM) sampling.
At t' = 0, a' = 1 and s' = 0 exactly, so the last step returns x0 itself.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vasa_jax.diffusion.process import factors
from vasa_jax.diffusion.schedule import Schedule, trailing_levels


def ddim_step(
    schedule: Schedule,
    x: Float[Array, " b *rest"],
    x0: Float[Array, " b *rest"],
    level: Float[Array, " b"],
    following: Float[Array, " b"],
    eta: float = 0.0,
    z: Float[Array, " b *rest"] | None = None,
) -> Float[Array, " b *rest"]:
    """One step of equation (1), from `level` down to `following`.

    Args:
        schedule: gives a and s.
        x: sample at `level`.
        x0: the denoiser's prediction of clean data there.
        level: in (0, T].
        following: in [0, level].
        eta: share of fresh noise, in [0, 1].
        z: standard normal noise; needed when eta > 0.

    Raises:
        ValueError: eta outside [0, 1], or no z for an eta above 0.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"{eta=} must be in [0, 1]: 0 is deterministic, 1 is ancestral sampling")
    signal, noise = factors(schedule, level, x)
    signal_next, noise_next = factors(schedule, following, x)
    eps = (x - signal * x0) / noise
    if not eta:
        return signal_next * x0 + noise_next * eps
    if z is None:
        raise ValueError(f"{eta=} draws fresh noise: pass z")
    # sigma = s' eta root; written with squares so that the part left for eps cannot turn negative by rounding
    share = jnp.clip(eta**2 * (1 - jnp.square(signal / signal_next)) / jnp.square(noise), 0, 1)
    return signal_next * x0 + noise_next * (jnp.sqrt(1 - share) * eps + jnp.sqrt(share) * z)


def sample(
    denoise: Callable[[Array, Array], Array],
    noise: Float[Array, " b *rest"],
    schedule: Schedule,
    steps: int,
    eta: float = 0.0,
    keys: Key[Array, " b"] | None = None,
) -> Float[Array, " b *rest"]:
    """Turn noise into data: `steps` evaluations of the denoiser, at trailing levels, in one `lax.scan`.

    Args:
        denoise: (x (b, ...), level (b,)) -> x0 (b, ...).
        noise: standard normal start; its dtype is the sampler's.
        schedule: the one the denoiser was trained with.
        steps: 1 or more; with 1 the result is denoise(noise, T).
        eta: share of fresh noise, in [0, 1].
        keys: one a sample, needed when eta > 0; step i of sample j draws from fold_in(keys[j], i), so neither the
            batch nor the order of evaluation matters.

    Raises:
        ValueError: steps below 1, eta outside [0, 1], or no keys for an eta above 0.
    """
    if eta and keys is None:
        raise ValueError(f"{eta=} draws fresh noise: pass one key a sample")
    levels = jnp.asarray(trailing_levels(schedule, steps), noise.dtype)
    batch = noise.shape[0]

    def draw(key: Array, index: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, index), noise.shape[1:], noise.dtype)

    def body(x: Array, row: tuple[Array, Array, Array]) -> tuple[Array, None]:
        index, level, following = row
        here, there = jnp.full((batch,), level), jnp.full((batch,), following)
        z = None if keys is None or not eta else jax.vmap(draw, in_axes=(0, None))(keys, index)
        return ddim_step(schedule, x, denoise(x, here), here, there, eta, z), None

    return jax.lax.scan(body, noise, (jnp.arange(steps), levels[:-1], levels[1:]))[0]
