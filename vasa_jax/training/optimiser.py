"""AdamW as MegaPortraits uses it: linear warm-up, a schedule of the rate, decay of kernels only, clipped gradients.

With step i of n, warm-up w, rates r and f, and the share d of the steps in which the rate falls at the end,

    rate(i) = min(1, (i + 1) / w) (f + (r - f) g(i / n)),
    g(p) = (1 + cos(pi min(p, 1))) / 2          cosine (Loshchilov and Hutter 2017),
    g(p) = 1                                    constant,
    g(p) = clip((1 - p) / d, 0, 1)              wsd, warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395).

A wsd run may be made longer from any checkpoint before its decay.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vasa_jax.checkpoint import flatten
from vasa_jax.errors import UserError
from vasa_jax.training.config import OptimiserConfig


def learning_rate(config: OptimiserConfig, steps: int, step: Int[Array, ""] | int) -> Float[Array, ""]:
    """The rate at a step counted from 0, of a run of `steps` steps."""
    step = jnp.asarray(step) * 1.0
    progress = jnp.minimum(step / steps, 1.0)
    share = {
        "cosine": lambda: 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
        "constant": lambda: jnp.ones_like(progress),
        "wsd": lambda: jnp.clip((1.0 - progress) / config.decay_share, 0.0, 1.0),
    }[config.schedule]()
    low, high = config.final_learning_rate, config.learning_rate
    return (low + (high - low) * share) * jnp.minimum(1.0, (step + 1.0) / max(config.warmup, 1))


def decayed(params: Any) -> Any:
    """True for every leaf called `kernel`, False for biases, norms, embeddings and the rest."""
    is_kernel = lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) == "kernel"  # noqa: E731
    return jax.tree_util.tree_map_with_path(is_kernel, params)


def is_frozen(config: OptimiserConfig, name: str) -> bool:
    """Whether a parameter of this name (`autoencoder/decoder/up_0/conv_0/kernel`) is never changed."""
    return any(re.fullmatch(pattern, name) for pattern in config.freeze)


def by_name(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Map (name, leaf) over a tree, names as `checkpoint.flatten` gives them."""
    return jax.tree.unflatten(jax.tree.structure(tree), [function(*item) for item in flatten(tree).items()])


def check_patterns(config: OptimiserConfig, params: Any) -> None:
    """Raise UserError for a pattern of `freeze` or `rates` that matches no parameter, or where all are frozen."""
    names = list(flatten(params))
    for field, patterns in (("freeze", config.freeze), ("rates", [pattern for pattern, _ in config.rates])):
        for pattern in patterns:
            if not any(re.fullmatch(pattern, name) for name in names):
                raise UserError(f"optimiser.{field}={pattern!r} matches no parameter; names look like {names[0]!r}")
    if all(is_frozen(config, name) for name in names):
        raise UserError(f"optimiser.freeze={config.freeze!r} leaves nothing to train; name fewer patterns")


def make_optimiser(config: OptimiserConfig, steps: int) -> optax.GradientTransformation:
    """Clip, then AdamW at `learning_rate`, times the factor of the first of `config.rates` that matches.

    Its state counts its own steps, in agreement with the train state. Frozen parameters are not updated, have no
    moments and do not count in the norm.
    """

    def factor(name: str, update: Any) -> Any:
        return next((rate * update for pattern, rate in config.rates if re.fullmatch(pattern, name)), update)

    trained = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            lambda step: learning_rate(config, steps, jnp.asarray(step)),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
        optax.stateless(lambda updates, params: by_name(factor, updates)),
    )
    if not config.freeze:
        return trained
    kind = lambda name, _: "frozen" if is_frozen(config, name) else "trained"  # noqa: E731
    return optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, lambda params: by_name(kind, params))
