"""AdamW as MegaPortraits uses it: linear warm-up, a cosine to the final rate, decay of kernels only, clipped gradients.

With step i of n, warm-up w, rates r and f:  rate(i) = min(1, (i + 1) / w) (f + (r - f) (1 + cos(pi min(i / n, 1))) /
2).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vasa_jax.training.config import OptimiserConfig


def learning_rate(config: OptimiserConfig, steps: int, step: Int[Array, ""] | int) -> Float[Array, ""]:
    """The rate at a step counted from 0, of a run of `steps` steps."""
    step = jnp.asarray(step) * 1.0
    progress = jnp.minimum(step / steps, 1.0)
    low, high = config.final_learning_rate, config.learning_rate
    cosine = low + 0.5 * (high - low) * (1.0 + jnp.cos(jnp.pi * progress))
    return cosine * jnp.minimum(1.0, (step + 1.0) / max(config.warmup, 1))


def decayed(params: Any) -> Any:
    """True for every leaf called `kernel`, False for biases, norms, embeddings and the rest."""
    is_kernel = lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) == "kernel"  # noqa: E731
    return jax.tree_util.tree_map_with_path(is_kernel, params)


def make_optimiser(config: OptimiserConfig, steps: int) -> optax.GradientTransformation:
    """Clip, then AdamW at `learning_rate`; its state counts its own steps, in agreement with the train state."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            lambda step: learning_rate(config, steps, jnp.asarray(step)),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
    )
