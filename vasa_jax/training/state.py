"""The train state: all that a step changes, and the constants it needs.

Nothing else is carried from step to step: random keys come from the step's number (design section 2), so a saved
state and a position in the data resume exactly.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vasa_jax.training.players import Player, averaged


class TrainState(NamedTuple):
    """One pytree; the fields are `Any` because they also hold shapes and shardings.

    step: int32 (), steps done.
    params: the trained parameters, float32.
    ema: the exponential moving average of the parameters of averaged players, structured as they are.
    opt: the state of each player's optimiser, by name.
    constants: a pytree that is never trained (stage 2: the motion statistics; stage 1: empty).
    mutable: a pytree that follows the parameters without a gradient (stage 1: the discriminator's spectral-norm
        vectors; stage 2: empty).
    """

    step: Any
    params: Any
    ema: Any
    opt: Any
    constants: Any
    mutable: Any


def create(
    params: Any,
    constants: Any,
    mutable: Any,
    players: Sequence[Player],
    optimisers: Mapping[str, optax.GradientTransformation],
) -> TrainState:
    """The state before the first step; the average starts at the parameters, in arrays of its own.

    Args:
        params, constants, mutable: see `TrainState`.
        players: who learns.
        optimisers: of each player, by name.
    """
    opt = {player.name: optimisers[player.name].init(player.part(params)) for player in players}
    average = jax.tree.map(jnp.copy, averaged(players, params))
    return TrainState(jnp.zeros((), jnp.int32), params, average, opt, constants, mutable)


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def size_bytes(tree: Any) -> int:
    """Bytes of a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
