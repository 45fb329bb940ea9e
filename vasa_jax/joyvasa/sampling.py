"""One window of JoyVASA's motion: ancestral diffusion (Ho et al. 2020) with guidance on the sound, as one scan.

With the cosine schedule of `diffusion.schedule`, beta no less than 1e-4, alpha = 1 - beta and abar the product of alpha
up to t, a step goes from x_t and the network's x0 to

    x_{t-1} = k x_t + m x0 + sigma z,     z standard normal,                                     (1)
    k = (1 - abar_{t-1}) sqrt(alpha_t) / (1 - abar_t),    m = beta_t sqrt(abar_{t-1}) / (1 - abar_t),
    sigma^2 = beta_t (1 - abar_{t-1}) / (1 - abar_t).

At t = 1, k = sigma = 0 and m = 1: the last prediction is the sample. x0 is guided (Ho and Salimans 2022),

    x0 = o_null + s (o_audio - o_null),                                                          (2)

where o_null sees the learned null in place of the window's sound; what went before the window is the same in both.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.diffusion.schedule import cosine
from vasa_jax.joyvasa.denoiser import check_position_mode
from vasa_jax.joyvasa.motion_generator import RELEASED, MotionGenerator, MotionGeneratorConfig

GUIDANCE = 2.8
"""s of equation (2), as JoyVASA's command line sets it."""


class Schedule(NamedTuple):
    """Float64 tables over the steps 0..T: alpha_t, its product abar_t, and k, m, sigma of equation (1).

    Row 0 is clean data, which no step starts from: alpha = abar = 1, and the others are 0.
    """

    alpha: np.ndarray
    abar: np.ndarray
    keep: np.ndarray
    move: np.ndarray
    sigma: np.ndarray


def schedule(steps: int) -> Schedule:
    """The tables of T = `steps`; raises ValueError below 1."""
    beta = np.maximum(-np.expm1(np.diff(cosine(steps).log_signal)), 1e-4)
    log_abar = np.concatenate([np.zeros(1), np.cumsum(np.log1p(-beta))])
    rest, abar = -np.expm1(log_abar), np.exp(log_abar)
    shares = (
        rest[:-1] / rest[1:] * np.sqrt(1 - beta),
        beta / rest[1:] * np.sqrt(abar[:-1]),
        np.sqrt(rest[:-1] / rest[1:] * beta),
    )
    return Schedule(np.append(1.0, 1 - beta), abar, *(np.append(0.0, share) for share in shares))


def ancestral(
    denoise: Callable[[Array, Array], Array],
    start_noise: Float[Array | np.ndarray, " b *rest"],
    step_noise: Float[Array | np.ndarray, "steps b *rest"],
) -> Float[Array, " b *rest"]:
    """Turn noise into data by equation (1), T = len(step_noise) times, in one `lax.scan`.

    Args:
        denoise: (x_t (b, ...), t ()) -> x0 (b, ...).
        start_noise: x_T, standard normal.
        step_noise: z of step t at index t - 1; the first entry has no effect.
    """
    tables = schedule(len(step_noise))
    start_noise = jnp.asarray(start_noise)
    rows = [jnp.asarray(table[1:], start_noise.dtype) for table in (tables.keep, tables.move, tables.sigma)]

    def body(x: Array, row: tuple[Array, ...]) -> tuple[Array, None]:
        step, keep, move, sigma, z = row
        return keep * x + move * denoise(x, step) + sigma * z, None

    steps = jnp.arange(1, len(step_noise) + 1)
    return jax.lax.scan(body, start_noise, (steps, *rows, jnp.asarray(step_noise)), reverse=True)[0]


def sample(
    variables: Mapping[str, Any],
    audio_features: Float[Array | np.ndarray, "b w c"],
    start_noise: Float[Array | np.ndarray, "b w d"],
    step_noise: Float[Array | np.ndarray, "steps b w d"],
    previous: tuple[Any, Any] | None = None,
    guidance: float | Float[Array, ""] = GUIDANCE,
    position_mode: str = "constant",
    config: MotionGeneratorConfig = RELEASED,
) -> Float[Array, "b w d"]:
    """Draw one window of normalised motion; pure, and to be jitted with `position_mode` and `config` closed over.

    The cross-attention is computed once, outside the loop; both branches of equation (2) run as one batch.

    Args:
        variables: of `MotionGenerator(config)`.
        audio_features: of its method `audio_features`.
        start_noise: x_T, standard normal.
        step_noise: standard normal, that of step t at index t - 1; the first entry has no effect.
        previous: motion (b, p, d) and audio features (b, p, c) of the p frames before; the learned start if None.
        guidance: s of equation (2); 1 is no guidance.
        position_mode: "constant", as the released weights were trained, or "per_position".
        config: sizes.

    Raises:
        ValueError: another position mode, or noise of another shape or number of steps.
    """
    check_position_mode(position_mode)
    expected = (config.steps, *start_noise.shape)
    if step_noise.shape != expected or start_noise.shape != (len(audio_features), config.window, config.motion):
        raise ValueError(f"noise {start_noise.shape} and {step_noise.shape} does not fit {config.steps} steps")
    network, params = MotionGenerator(config), variables["params"]
    batch = len(start_noise)
    if previous is None:
        previous = jnp.repeat(params["start_motion"], batch, 0), jnp.repeat(params["start_audio"], batch, 0)
    motion, audio = (jnp.concatenate([part, part]) for part in previous)
    null = jnp.broadcast_to(params["null_audio"], audio_features.shape)
    crossed = network.apply(variables, jnp.concatenate([null, audio_features]), audio, method="cross_attention")

    def denoise(x: Array, step: Array) -> Array:
        steps = jnp.full((2 * batch,), step)
        out = network.apply(variables, jnp.concatenate([x, x]), motion, crossed, steps, position_mode, method="predict")
        without, given = jnp.split(jnp.asarray(out)[:, config.previous :], 2)
        return without + guidance * (given - without)

    return ancestral(denoise, start_noise, step_noise)
