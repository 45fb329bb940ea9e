"""Players: who learns in a step, and from what.

A step computes its views once (`Task.forward`): whatever the losses look at, such as true and rendered pictures. Each
player owns a part of the parameters and has a loss of its own over the views, an optimiser with its own clip, and a
turn in some or in all steps. A generator plays alone, or against a discriminator (MegaPortraits section 3.3; Goodfellow
et al. 2014).

The views belong to the first player: they are computed with its parameters, and its loss alone sends gradients through
them. In each loss the parameters of all other players are stopped. So the gradient of the sum of all losses holds each
player's own gradient in its own part, and one backward pass serves all.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from vasa_jax.arrays import Average
from vasa_jax.nn.conditional import when
from vasa_jax.training.config import OptimiserConfig

Metrics = dict[str, Any]


class Frozen(NamedTuple):
    """What a step reads beside the parameters and does not learn.

    constants: of the task, see `TrainState`.
    mutable: numbers that follow the parameters without a gradient (`Task.advance`), as they are in this step.
    helpers: parameters of frozen networks.
    step: int32 (), steps done.
    """

    constants: Any
    mutable: Any
    helpers: Any
    step: Any


@dataclasses.dataclass(frozen=True)
class Player:
    """Who learns.

    name: prefix of the metrics of every player but the first.
    loss: (parameters, frozen, views) to (mean over the samples, metrics); metrics are `Average`s over the samples that
        have what is measured, or plain means over all samples.
    optimiser: of its own part of the parameters.
    owns: top-level names of that part; () is all, for who plays alone.
    every: steps from one turn to the next.
    start: steps before the first turn.
    averaged: whether the averaged parameters hold its part: whether anybody uses it later.
    """

    name: str
    loss: Callable[[Any, Frozen, Any], tuple[Any, Metrics]]
    optimiser: OptimiserConfig
    owns: tuple[str, ...] = ()
    every: int = 1
    start: int = 0
    averaged: bool = True

    def part(self, params: Any) -> Any:
        """Its own part of the parameters, or of a tree like them."""
        return {name: params[name] for name in self.owns} if self.owns else params

    def is_due(self, step: Int[Array, ""]) -> Bool[Array, ""] | bool:
        """Whether a step, counted from 0, is its turn; True where every step is."""
        if not self.start and self.every == 1:
            return True
        return (step >= self.start) & ((step - self.start) % self.every == 0)

    def turns(self, steps: int) -> int:
        """How many of the first `steps` steps are its turns, at least 1."""
        return max(1, -(-(steps - self.start) // self.every))


def averaged(players: Sequence[Player], params: Any) -> Any:
    """The part of the parameters that is averaged."""
    parts = [player.part(params) for player in players if player.averaged]
    return parts[0] if len(players) == 1 else {name: value for part in parts for name, value in part.items()}


def all_losses(players: Sequence[Player], params: Any, frozen: Frozen, views: Any) -> tuple[Any, Metrics]:
    """The sum of the losses of those whose turn it is, in whose gradient each player finds its own; and all metrics,
    `loss` among them, as `Average`s: those of a player whose turn it is not have a count of 0."""
    total, found = jnp.zeros(()), {}
    for number, player in enumerate(players):
        own = params if not player.owns else jax.lax.stop_gradient(params) | player.part(params)
        seen = jax.lax.stop_gradient(views) if number else views

        def loss(own: Any = own, seen: Any = seen, player: Player = player) -> tuple[Any, Metrics]:
            value, metrics = player.loss(own, frozen, seen)
            metrics = metrics | {"loss": value}
            return value, {
                name: metric if isinstance(metric, Average) else Average(metric, jnp.ones_like(metric))
                for name, metric in metrics.items()
            }

        value, metrics = when(player.is_due(frozen.step), loss)
        total = total + value
        prefix = f"{player.name}/" if number else ""
        found |= {f"{prefix}{name}": metric for name, metric in metrics.items()}
    return total, found


def as_computed(params: Any, frozen: Frozen, views: tuple[Any, Metrics]) -> tuple[Any, Metrics]:
    """The loss of who plays alone, whose view is the loss."""
    del params, frozen
    return views
