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
    inputs: tuple[Any, ...]  # of `init`: plain tuples are shapes of float32 arrays, the rest are abstract already
    rules: list[Rule]
    folds: list[Fold] = dataclasses.field(default_factory=list)
    ignored: list[Ignored] = dataclasses.field(default_factory=list)
    inside: str | None = None  # where the tensors lie in a file that holds more than them

    def shapes(self) -> Any:
        """The tree of its variables, nothing allocated."""
        inputs = [jax.ShapeDtypeStruct(x, jnp.float32) if type(x) is tuple else x for x in self.inputs]
        return jax.eval_shape(self.build().init, jax.random.key(0), *inputs)


@dataclasses.dataclass(frozen=True)
class Family:
    """A network of many sizes, which share a table."""

    default: Any  # the config where none is given
    member: Callable[[Any], Network]  # config to network


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


def counters(*norms: str) -> list[Ignored]:
    """What batch norms store beside their statistics."""
    return [Ignored(f"{norm}.num_batches_tracked", "counts training steps") for norm in norms]


def layer_norm(torch: str, flax: str) -> list[Rule]:
    """Scale and shift of a layer norm or a group norm."""
    return [Rule(f"{torch}.weight", f"params/{flax}/scale"), Rule(f"{torch}.bias", f"params/{flax}/bias")]
