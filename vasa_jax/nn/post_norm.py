"""Parts of a post-norm transformer (Vaswani et al. 2017), as torch builds it and as public speech networks are trained.

Every part is added to its input, and the sum is normalised:

    x <- norm(x + part(x)),   norm with epsilon 1e-5,   feed-forward W2 gelu(W1 x) with the exact (erf) gelu.    (1)

Queries, keys, values and the output have a linear layer with a bias each. `nn.attention` is the pre-norm sibling.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

gelu = partial(nn.gelu, approximate=False)


def layer_norm(name: str) -> nn.LayerNorm:
    """A layer norm in torch's arithmetic: epsilon 1e-5, variance from differences to the mean."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself, every token to every token; `num_heads` must divide c."""

    num_heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Attend."""
        c = x.shape[-1]
        if c % self.num_heads:
            raise ValueError(f"width {c} must be a multiple of num_heads={self.num_heads}")

        def heads(name: str) -> Array:
            return nn.Dense(c, name=name)(x).reshape(*x.shape[:2], self.num_heads, -1)

        query, key, value = heads("query"), heads("key"), heads("value")
        logits = jnp.einsum("bqhc,bkhc->bhqk", query * query.shape[-1] ** -0.5, key)
        mixed = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(logits), value)
        return nn.Dense(c, name="out")(mixed.reshape(x.shape))


class FeedForward(nn.Module):
    """The feed-forward part of equation (1); `hidden` channels between its two layers."""

    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Map every token by itself."""
        return nn.Dense(x.shape[-1], name="outer")(gelu(nn.Dense(self.hidden, name="inner")(x)))
