"""The networks that the converter knows: how to build each, and its table of rules.

A fork adds a network with one more entry: a function that gives the module, one that initialises it (for the shapes),
and a table. `convert` and `to_torch` do the rest.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.convert import folds, rules
from vasa_jax.convert.folds import Fold
from vasa_jax.convert.rules import CONVOLUTION_2D, LINEAR, Ignored, Rule, Transform
from vasa_jax.pretrained.syncnet import FRAMES, STEPS, SyncNet


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


def networks() -> list[str]:
    """Names of all networks."""
    return sorted(_NETWORKS)


def build(name: str) -> nn.Module:
    """The Flax module of a network; raises ValueError for an unknown name."""
    return _network(name).build()


def convert(name: str, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Flax variables (collections `params`, `batch_stats`) from a torch state dict.

    Raises:
        ValueError: an unknown name, or tensors that do not fit: one message with every offender.
    """
    network = _network(name)
    return rules.to_flax(folds.fold(tensors, network.folds), network.rules, network.ignored, network.shapes())


def to_torch(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A state dict that the original loads, but for what the table ignores. Raises ValueError as `convert`."""
    network = _network(name)
    return folds.unfold(rules.to_torch(variables, network.rules), network.folds)


def _network(name: str) -> Network:
    if name not in _NETWORKS:
        raise ValueError(f"there is no network {name!r}; the converter knows {', '.join(networks())}")
    return _NETWORKS[name]


PLANAR = Transform("planar", lambda x: x[:, :, 0].transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)[:, :, None])
"""A 3-D kernel of one slice as a 2-D one."""


def all_frames(count: int) -> Transform:
    """A 3-D kernel over all `count` frames as a 2-D one whose input channels are (frame, channel)."""

    def to_flax(x: np.ndarray) -> np.ndarray:
        y = x.transpose(3, 4, 2, 1, 0)
        return y.reshape(*y.shape[:2], -1, y.shape[-1])

    def to_torch_(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], count, -1, x.shape[-1]).transpose(4, 3, 2, 0, 1)

    return Transform("all frames", to_flax, to_torch_)


def _batch_norm(torch: str, flax: str) -> list[Rule]:
    return [
        Rule(f"{torch}.weight", f"params/{flax}/scale"),
        Rule(f"{torch}.bias", f"params/{flax}/bias"),
        Rule(f"{torch}.running_mean", f"batch_stats/{flax}/mean"),
        Rule(f"{torch}.running_var", f"batch_stats/{flax}/var"),
    ]


def _layer(torch: str, flax: str, transform: Transform) -> list[Rule]:
    return [Rule(f"{torch}.weight", f"params/{flax}/kernel", transform), Rule(f"{torch}.bias", f"params/{flax}/bias")]


def _syncnet() -> list[Rule]:
    table: list[Rule] = []
    towers = (
        ("aud", "audio", (0, 4, 8, 11, 14, 18), (CONVOLUTION_2D,) * 6),
        ("lip", "lip", (0, 4, 8, 11, 14, 18), (all_frames(FRAMES), *(PLANAR,) * 5)),
    )
    for torch, flax, places, transforms in towers:
        for i, (place, transform) in enumerate(zip(places, transforms, strict=True)):
            table += _layer(f"netcnn{torch}.{place}", f"{flax}_convolutions_{i}", transform)
            table += _batch_norm(f"netcnn{torch}.{place + 1}", f"{flax}_norms_{i}")
        table += _layer(f"netfc{torch}.0", f"{flax}_head_0", LINEAR)
        table += _batch_norm(f"netfc{torch}.1", f"{flax}_head_1")
        table += _layer(f"netfc{torch}.3", f"{flax}_head_2", LINEAR)
    return table


_NETWORKS = {
    "syncnet": Network(
        SyncNet,
        ((1, FRAMES, 224, 224, 3), (1, 13, STEPS, 1)),
        _syncnet(),
        ignored=[Ignored("{tower}.{i}.num_batches_tracked", "counts training steps")],
    ),
}
