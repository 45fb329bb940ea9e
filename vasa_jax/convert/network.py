"""What the converter must know of a network, and the rows that many tables share."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasa_jax.convert.folds import Fold
from vasa_jax.convert.rules import LINEAR, Ignored, Rule, Transform


@dataclasses.dataclass(frozen=True)
class Network:
    """A module, inputs to shape it, and the way from its torch names."""

    build: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...]  # shapes of float32 inputs of `init`
    rules: list[Rule]
    folds: list[Fold] = dataclasses.field(default_factory=list)
    ignored: list[Ignored] = dataclasses.field(default_factory=list)

    def shapes(self) -> Any:
        """The tree of its variables, nothing allocated."""
        inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in self.inputs]
        return jax.eval_shape(self.build().init, jax.random.key(0), *inputs)


def batch_norm(torch: str, flax: str) -> list[Rule]:
    """Scale, shift and statistics of a batch norm."""
    return [
        Rule(f"{torch}.weight", f"params/{flax}/scale"),
        Rule(f"{torch}.bias", f"params/{flax}/bias"),
        Rule(f"{torch}.running_mean", f"batch_stats/{flax}/mean"),
        Rule(f"{torch}.running_var", f"batch_stats/{flax}/var"),
    ]


def layer(torch: str, flax: str, transform: Transform = LINEAR) -> list[Rule]:
    """Kernel and bias of a linear layer or a convolution."""
    return [Rule(f"{torch}.weight", f"params/{flax}/kernel", transform), Rule(f"{torch}.bias", f"params/{flax}/bias")]


def layer_norm(torch: str, flax: str) -> list[Rule]:
    """Scale and shift of a layer norm or a group norm."""
    return [Rule(f"{torch}.weight", f"params/{flax}/scale"), Rule(f"{torch}.bias", f"params/{flax}/bias")]
