"""JoyVASA's denoiser: noisy motion, sound and the frames before to clean motion, by eight post-norm decoder layers.

The tokens h are [previous motion, x] through a linear layer, plus a position, plus the embedding of the step; the
memory m is [previous audio, audio], as long. A layer is

    h <- norm(h + attention(h)),   h <- norm(h + c),   h <- norm(h + feed_forward(h)).           (1)

Token i may look at m_i alone, so the softmax of its cross-attention is over one number, queries and keys have no
effect, and what it adds is exactly linear in the memory:

    c_i = W_o (W_v m_i + b_v) + b_o.                                                             (2)

(2) knows neither the motion nor the step: `cross_attention` computes it for all layers at once, once a window.

Positions come in two kinds that do not agree. The public weights were trained with one row of the sinusoidal table,
that of the number of tokens, added to every token ("constant"); later code of the authors adds row i to token i
("per_position") and runs the same weights.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vasa_jax.nn.post_norm import FeedForward, SelfAttention, gelu, layer_norm

POSITION_MODES = ("constant", "per_position")


class DecoderLayer(nn.Module):
    """Equation (1), its cross-attention given."""

    heads: int

    @nn.compact
    def __call__(self, h: Float[Array, "b n c"], crossed: Float[Array, "b n c"]) -> tuple[Float[Array, "b n c"], None]:
        """The layer's output, as the carry of a scan."""
        h = layer_norm("norm_1")(h + SelfAttention(self.heads, name="attention")(h))
        h = layer_norm("norm_2")(h + crossed)
        return layer_norm("norm_3")(h + FeedForward(4 * h.shape[-1], name="ffn")(h)), None


class AlignedAttention(nn.Module):
    """Equation (2). `query` and `key` are parameters without effect, kept so that checkpoints come back whole."""

    @nn.compact
    def __call__(self, memory: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """What a layer's cross-attention adds to its tokens."""
        width = memory.shape[-1]
        if self.is_initializing():
            for name in ("query", "key"):
                nn.Dense(width, name=name)(memory)
        return nn.Dense(width, name="out")(nn.Dense(width, name="value")(memory))


class Denoiser(nn.Module):
    """The network behind the audio features. motion: numbers of a frame. steps: T, the highest step."""

    motion: int
    width: int
    heads: int
    layers: int
    steps: int

    def setup(self):
        """Name the layers."""
        self.motion_in = nn.Dense(self.width)
        self.step_inner, self.step_outer = nn.Dense(self.width), nn.Dense(self.width)
        stacked: dict[str, Any] = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        alike: dict[str, Any] = {"in_axes": None, "axis_size": self.layers}  # one memory for all layers
        self.cross = nn.vmap(AlignedAttention, **alike, **stacked)()
        self.decoder = nn.scan(DecoderLayer, length=self.layers, **stacked)(self.heads)
        self.out_inner, self.out_outer = nn.Dense(self.width // 2), nn.Dense(self.motion)

    def cross_attention(
        self, audio: Float[Array, "b w c"], previous_audio: Float[Array, "b p c"]
    ) -> Float[Array, "l b n c"]:
        """Equation (2) for every layer; n = p + w."""
        return self.cross(jnp.concatenate([previous_audio, audio], axis=1))

    def __call__(
        self,
        x: Float[Array, "b w d"],
        previous_motion: Float[Array, "b p d"],
        crossed: Float[Array, "l b n c"],
        step: Int[Array, " b"],
        position_mode: str,
    ) -> Float[Array, "b n d"]:
        """Clean motion of the previous frames and of the window, n = p + w of them.

        Args:
            x: noisy motion at `step`.
            previous_motion: the frames before the window, clean.
            crossed: of `cross_attention`.
            step: in 1..T.
            position_mode: "constant" or "per_position".

        Raises:
            ValueError: another position mode.
        """
        check_position_mode(position_mode)
        h = self.motion_in(jnp.concatenate([previous_motion, x], axis=1))
        count = h.shape[1]
        rows = sinusoids(count + 1, self.width)
        h += jnp.asarray(rows[count:] if position_mode == "constant" else rows[:count])[None]
        table = jnp.asarray(sinusoids(self.steps + 1, self.width))
        h += self.step_outer(gelu(self.step_inner(table[step])))[:, None]
        h, _ = self.decoder(h, crossed)
        return self.out_outer(gelu(self.out_inner(h)))


def check_position_mode(position_mode: str) -> None:
    """Raises ValueError for a mode that is not in `POSITION_MODES`."""
    if position_mode not in POSITION_MODES:
        raise ValueError(f"unknown {position_mode=}; choose one of {', '.join(POSITION_MODES)}")


def sinusoids(count: int, width: int) -> Float[np.ndarray, "count width"]:
    """Row p holds sin(p r_i) in column 2 i and cos(p r_i) in column 2 i + 1, with r_i = 10000^(-2 i / width)."""
    rate = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-np.log(10_000.0) / width))
    angle = np.arange(count, dtype=np.float32)[:, None] * rate
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(count, width)
