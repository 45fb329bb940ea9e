"""The forward process, and the three ways to name what a denoiser predicts.

Ho et al. 2020 (DDPM) equation 4 and Salimans and Ho 2022 ("Progressive Distillation") section 4, with a(t) and s(t) of
`diffusion.schedule`:

    x = a x0 + s eps,        v = a eps - s x0.                                                   (1)

Given x, any one of x0, eps and v fixes the other two. VASA-1 predicts x0 (its loss is the squared error of x0).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.diffusion.schedule import Schedule, signal_and_noise

KINDS = ("x0", "eps", "v")
"""Names of the three predictions."""


def factors(
    schedule: Schedule, level: Float[Array, " b"], like: Float[Array, " b *rest"]
) -> tuple[Float[Array, " b *ones"], Float[Array, " b *ones"]]:
    """a(t) and s(t), one a sample, with trailing axes of one so that they multiply `like`."""
    signal, noise = signal_and_noise(schedule, level)
    shape = (-1,) + (1,) * (like.ndim - 1)
    return jnp.reshape(signal, shape).astype(like.dtype), jnp.reshape(noise, shape).astype(like.dtype)


def q_sample(
    schedule: Schedule, x0: Float[Array, " b *rest"], level: Float[Array, " b"], eps: Float[Array, " b *rest"]
) -> Float[Array, " b *rest"]:
    """Noise data to a level in [0, T]: equation (1), with standard normal eps."""
    signal, noise = factors(schedule, level, x0)
    return signal * x0 + noise * eps


def convert(
    schedule: Schedule,
    value: Float[Array, " b *rest"],
    source: str,
    target: str,
    x: Float[Array, " b *rest"],
    level: Float[Array, " b"],
) -> Float[Array, " b *rest"]:
    """Turn one of x0, eps, v (`source`) into another (`target`), given the noisy sample x at its level.

    Args:
        schedule: gives a and s.
        value: the quantity named by `source`.
        source: what `value` is, one of `KINDS`.
        target: what to return, one of `KINDS`.
        x: noisy sample.
        level: in (0, T]; at 0 there is no noise, and eps cannot be told from x0.

    Raises:
        ValueError: an unknown name.
    """
    for name in (source, target):
        if name not in KINDS:
            raise ValueError(f"unknown prediction {name!r}; choose one of {', '.join(KINDS)}")
    signal, noise = factors(schedule, level, x)
    if source == "x0":
        x0, eps = value, (x - signal * value) / noise
    elif source == "eps":
        x0, eps = (x - noise * value) / signal, value
    else:
        x0, eps = signal * x - noise * value, noise * x + signal * value
    return {"x0": x0, "eps": eps, "v": signal * eps - noise * x0}[target]
