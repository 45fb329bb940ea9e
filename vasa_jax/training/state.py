"""The train state: all that a step changes, and the constants it needs.

Nothing else is carried from step to step: random keys come from the step's number (design section 2), so a saved
state and a position in the data resume exactly.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class TrainState(NamedTuple):
    """One pytree; the fields are `Any` because they also hold shapes and shardings.

    step: int32 (), steps done.
    params: the trained parameters, float32.
    ema: their exponential moving average, same structure.
    opt: the optimiser's state.
    constants: a pytree that is never trained (stage 2: the motion statistics; stage 1: empty).
    """

    step: Any
    params: Any
    ema: Any
    opt: Any
    constants: Any


def create(params: Any, constants: Any, optimiser: optax.GradientTransformation) -> TrainState:
    """The state before the first step; the average starts at the parameters, in arrays of its own."""
    return TrainState(
        jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimiser.init(params), constants
    )


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def size_bytes(tree: Any) -> int:
    """Bytes of a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
