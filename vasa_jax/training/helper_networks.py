"""The frozen networks of stage 1's objective, in training: found, hashed, and handed to the step.

A config names their releases (`helpers.PART.weights`); a run's config and checkpoints carry their SHA-256 and never
the weights.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vasa_jax.autoencoder.objective import Helpers
from vasa_jax.errors import UserError
from vasa_jax.pretrained.helper import Helper, load_helper
from vasa_jax.training.config import AutoencoderExperiment, Experiment, HelpersConfig


class LoadedHelpers(NamedTuple):
    """Frozen networks by the name of their release. One that plays several parts is there once.

    parts: part to that name. sha256: of the parameters. networks: the networks. params: their parameters, NumPy arrays.
    """

    parts: dict[str, str]
    sha256: dict[str, str]
    networks: dict[str, Helper]
    params: dict[str, Any]

    @property
    def shapes(self) -> dict[str, Any]:
        """Of the parameters."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.asarray(x[:0]).dtype), self.params)

    def bound(self, params: Any) -> Helpers:
        """The networks by part, with parameters as the step has placed them."""
        return {part: (self.networks[name], params[name]) for part, name in self.parts.items()}


def load_helpers(config: HelpersConfig) -> LoadedHelpers:
    """The frozen networks that a config names.

    Raises:
        UserError: as `pretrained.helper.load_helper`, naming the part; for a network that knows no people as identity.
    """
    found = LoadedHelpers({}, {}, {}, {})
    for part, named in config.named.items():
        try:
            helper, params, sha256 = load_helper(named.weights, named.sha256)
        except UserError as error:
            raise UserError(f"helpers.{part}: {error}") from error
        if part == "identity" and helper.embed is None:
            raise UserError(
                f"helpers.{part}.weights={named.weights!r} is a {helper.kind}, which does not tell people apart; name "
                "an arcface or world_features release"
            )
        found.parts[part] = name = named.weights
        found.sha256[name], found.networks[name], found.params[name] = sha256, helper, params
    return found


def with_helpers(experiment: Experiment) -> Experiment:
    """The experiment with the SHA-256 of its frozen networks, if it has any; raises as `load_helpers`."""
    if not isinstance(experiment, AutoencoderExperiment) or not experiment.helpers.named:
        return experiment
    found = load_helpers(experiment.helpers)
    changed = {
        part: dataclasses.replace(getattr(experiment.helpers, part), sha256=found.sha256[name])
        for part, name in found.parts.items()
    }
    return dataclasses.replace(experiment, helpers=dataclasses.replace(experiment.helpers, **changed))
