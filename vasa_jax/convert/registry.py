"""The networks that the converter knows, by name.

A fork adds a network with one more table, by `add` or as a module of `convert/tables`: how to build it, which inputs
shape it and how its names go over. `convert` and `to_torch` do the rest.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from vasa_jax.convert import folds, prefixes, rules
from vasa_jax.convert.network import Family, Network
from vasa_jax.convert.tables import arcface, joyvasa, liveportrait, speech, syncnet, vasa, vgg
from vasa_jax.errors import UserError

_NETWORKS: dict[str, Network | Family] = {
    **arcface.NETWORKS,
    **joyvasa.NETWORKS,
    **liveportrait.NETWORKS,
    **speech.NETWORKS,
    **syncnet.NETWORKS,
    **vasa.NETWORKS,
    **vgg.NETWORKS,
}


def networks() -> list[str]:
    """Names of all networks."""
    return sorted(_NETWORKS)


def add(name: str, network: Network | Family) -> None:
    """Make a network known by a name; raises UserError for a name that is taken."""
    if name in _NETWORKS:
        raise UserError(f"the converter knows a network {name!r} already; choose another name")
    _NETWORKS[name] = network


def build(name: str, config: Any = None) -> nn.Module:
    """The Flax module of a network. Arguments and errors as of `find`."""
    return find(name, config).build()


def convert(name: str, tensors: Mapping[str, np.ndarray], config: Any = None) -> dict[str, Any]:
    """Flax variables (collections `params`, `batch_stats`) from a torch state dict.

    Args:
        name: of the network.
        tensors: torch's names to arrays.
        config: its size, as for `find`.

    Raises:
        UserError: as `find`, or tensors that do not fit: one message with the number of offenders and some of them.
    """
    network = find(name, config)
    shapes = network.shapes()

    def fit(candidate: Mapping[str, np.ndarray]) -> int:
        return rules.known(folds.fold(candidate, network.folds), network.rules, shapes)

    bare = prefixes.without_prefix(tensors, fit, (network.inside,) if network.inside else ())
    try:
        return rules.to_flax(folds.fold(bare, network.folds), network.rules, network.ignored, shapes)
    except UserError as error:
        raise UserError(f"{prefixes.hint(bare, fit)}{error}") from None


def to_torch(name: str, variables: Mapping[str, Any], config: Any = None) -> dict[str, np.ndarray]:
    """A state dict that the original loads, but for what the table ignores.

    Args:
        name: of the network.
        variables: its Flax variables.
        config: its size, as for `find`; without it, variables of any size of the family are taken.

    Raises:
        UserError: as `find`, or variables that do not fit, as `convert`.
    """
    network = find(name, config)
    shapes = network.shapes() if config is not None or default_config(name) is None else None
    return folds.unfold(rules.to_torch(variables, network.rules, shapes), network.folds)


def find(name: str, config: Any = None) -> Network:
    """What the converter knows of a network.

    Args:
        name: one of `networks()`.
        config: the size of a network that has sizes (`vasa.autoencoder`: `AutoencoderConfig`, `vasa.motion`:
            `MotionConfig`); None is that of the paper.

    Raises:
        UserError: an unknown name, a config of another network, or one for a network of a single size.
    """
    if name not in _NETWORKS:
        raise UserError(f"there is no network {name!r}; the converter knows {', '.join(networks())}")
    entry = _NETWORKS[name]
    if isinstance(entry, Network):
        if config is not None:
            raise UserError(f"the network {name!r} has one size: it takes no config")
        return entry
    if not isinstance(config, type(entry.default) | None):
        raise UserError(f"the network {name!r} takes a {type(entry.default).__name__}, no {type(config).__name__}")
    return entry.member(entry.default if config is None else config)


def default_config(name: str) -> Any:
    """The config that `find` takes where none is given; None for a network of a single size, or an unknown one."""
    entry = _NETWORKS.get(name)
    return entry.default if isinstance(entry, Family) else None
