"""Work that is done in some steps alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


def when(due: Bool[Array, ""] | bool, function: Callable[[], Any]) -> Any:
    """What a function returns where it is due, else zeros; with a plain True no branch is traced."""
    if due is True:
        return function()
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function))
    return jax.lax.cond(jnp.asarray(due), function, lambda: zeros)
