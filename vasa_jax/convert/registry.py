"""The networks that the converter knows, by name.

A fork adds a network with one more table: a module of `convert/tables` that says how to build it, which inputs shape it
and how its names go over. `convert` and `to_torch` do the rest.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from vasa_jax.convert import folds, rules
from vasa_jax.convert.network import Network
from vasa_jax.convert.tables import syncnet

_NETWORKS: dict[str, Network] = {**syncnet.NETWORKS}


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
