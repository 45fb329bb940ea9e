"""A pre-norm transformer encoder (Vaswani et al. 2017; norm before each part as in Xiong et al. 2020).

    x <- x + attention(norm(x)),        x <- x + feed_forward(norm(x)),                          (1)

with every token seeing every other. The logits and the softmax are float32 at least, whatever the compute dtype.
The blocks are one stack (`nn.stack`).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.nn.gathering import Dense
from vasa_jax.nn.stack import run_stack


def queries_are_keys(key: Array, shape: tuple[int, int], dtype: DTypeLike = jnp.float32) -> Array:
    """LeCun's initialisation of a kernel (c, 3 c), with equal parts for queries and keys.

    A fresh layer then looks at tokens like its own: where position embeddings are large, at those of its own moment.
    With independent parts it looks everywhere alike, and a motion token finds the sound of its frame late or never.
    """
    twice, value = jnp.split(nn.initializers.lecun_normal()(key, (shape[0], shape[1] // 3 * 2), dtype), 2, 1)
    return jnp.concatenate([twice, twice, value], 1)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself, (b, n, c) -> (b, n, c).

    num_heads: must divide c (ValueError). dtype: of the computation; None follows input and parameters. The kernel of
    `qkv` is (c, 3 c): queries, keys, values, each head after head.
    """

    num_heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        b, n, c = x.shape
        if c % self.num_heads:
            raise ValueError(f"width {c} must be a multiple of num_heads={self.num_heads}")
        size = c // self.num_heads
        qkv = Dense(3 * c, dtype=self.dtype, kernel_init=queries_are_keys, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(b, n, 3, self.num_heads, size), 2, 0)
        precise = jnp.promote_types(qkv.dtype, jnp.float32)
        logits = jnp.einsum("bqhc,bkhc->bhqk", query * size**-0.5, key, preferred_element_type=precise)
        weights = jax.nn.softmax(logits).astype(value.dtype)
        mixed = jnp.einsum("bhqk,bkhc->bqhc", weights, value).reshape(b, n, c)
        return Dense(c, dtype=self.dtype, name="out")(mixed)


class Block(nn.Module):
    """One pre-norm block, equation (1). ffn: hidden channels of the feed-forward part (GELU)."""

    num_heads: int
    ffn: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        normed = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x)
        x = x + SelfAttention(self.num_heads, self.dtype, name="attention")(normed)
        normed = nn.LayerNorm(dtype=self.dtype, name="ffn_norm")(x)
        hidden = nn.gelu(Dense(self.ffn, dtype=self.dtype, name="ffn_in")(normed))
        return x + Dense(x.shape[-1], dtype=self.dtype, name="ffn_out")(hidden)


class Encoder(nn.Module):
    """A stack of pre-norm blocks and a final LayerNorm, (b, n, c) -> (b, n, c)."""

    num_layers: int
    num_heads: int
    ffn: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        x = run_stack(Block(self.num_heads, self.ffn, self.dtype, name="blocks"), x, self.num_layers)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x)
