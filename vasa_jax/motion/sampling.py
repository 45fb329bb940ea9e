"""One window of motion: a guided sampler from noise (VASA-1 section 3.2: DDIM of 50 steps, l_A = 0.5 and l_g = 1)."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vasa_jax.diffusion.ddim import Ddim
from vasa_jax.diffusion.dpm_solver import DpmSolver
from vasa_jax.diffusion.guidance import Scale, guided
from vasa_jax.diffusion.schedule import cosine
from vasa_jax.diffusion.stepper import Stepper, sample
from vasa_jax.motion.conditions import GUIDED, Conditions
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import denoise, embed, without

GUIDANCE: Mapping[str, float] = MappingProxyType({"audio": 0.5, "gaze": 1.0, "distance": 0.0, "emotion": 0.0})
"""VASA-1's guidance scales: three branches a step."""
SAMPLERS: Mapping[str, Stepper] = MappingProxyType({"ddim": Ddim(), "dpm++": DpmSolver()})
"""Steppers by the name that users choose them by; both are deterministic given the start."""


def sample_window(
    config: MotionConfig,
    params: dict[str, Any],
    key: Key[Array, ""],
    conditions: Conditions,
    steps: int = 50,
    stepper: Stepper = Ddim(),  # noqa: B008 (frozen)
    guidance: Mapping[str, Scale] = GUIDANCE,
) -> Float[Array, "b w d"]:
    """Draw W frames of normalised motion; `statistics.denormalise` makes them raw.

    Conditions are embedded once, before the steps; the branches of guidance differ in tokens alone.

    Jit it with config, steps and stepper closed over: they decide the program, as do the names in `guidance`.

    Args:
        config: of the denoiser.
        params: of the denoiser.
        key: of this window; sample j of the batch draws from fold_in(key, j), so a batch does not change its samples.
        conditions: what is known.
        steps: evaluations of the denoiser, 1 or more.
        stepper: of the sampler.
        guidance: scale by name, of `conditions.GUIDED`; each that is traced, or a number that is not 0, adds a branch
            to the batch.

    Returns:
        (b, W, 6 + z), float32.

    Raises:
        ValueError: steps or guidance out of range, or a guidance name that is no condition.
    """
    if unknown := sorted(set(guidance) - set(GUIDED)):
        raise ValueError(f"guidance knows no condition {unknown[0]!r}; choose among {', '.join(GUIDED)}")
    batch, shape = conditions.gaze.shape[0], (config.window, config.motion_dim)

    def draw(index: Array) -> tuple[Array, Array]:
        start, steps_key = jax.random.split(jax.random.fold_in(key, index))
        return jax.random.normal(start, shape), steps_key

    noise, keys = jax.vmap(draw)(jnp.arange(batch))
    embedded = embed(config, params, conditions)
    draw_clean = guided(partial(denoise, config, params), embedded, partial(without, config), guidance)
    return sample(draw_clean, noise, cosine(config.timesteps), steps, stepper, keys)
