"""HuBERT and wav2vec 2.0 "base": one network that turns raw sound into features at 50 frames a second.

wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477) and HuBERT (Hsu et al. 2021, arXiv 2106.07447) differ in how they
are trained; their base encoders compute the same function, here in evaluation mode:

1. seven convolutions without bias (kernels 10 3 3 3 3 2 2, strides 5 2 2 2 2 2 2), a gelu behind each and, behind the
   first, a norm of every channel over time: a frame lasts 320 samples and sees 400;
2. layer norm and a linear layer, 512 to 768 channels;
3. a grouped convolution over 128 frames, which tells positions apart, added to its input, and a layer norm;
4. twelve post-norm transformer layers (`nn.post_norm`).

Sound is 16 kHz in [-1, 1]. Some checkpoints were trained on sound of mean 0 and variance 1: that is the caller's part.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.errors import UserError
from vasa_jax.nn.post_norm import FeedForward, SelfAttention, gelu, layer_norm

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
HOP = 320
"""Samples between two frames of features: the product of the strides."""
FIELD = 400
"""Samples that one frame sees."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Sizes; the defaults are those of the public base networks."""

    channels: int = 512  # of every convolution
    width: int = 768  # of every token
    layers: int = 12
    heads: int = 12
    hidden: int = 3072  # of the feed-forward part
    position_taps: int = 128  # frames under the positional convolution
    position_groups: int = 16

    def __post_init__(self):
        for name in ("heads", "position_groups"):
            if self.width % getattr(self, name):
                raise UserError(f"{self.width=} must be a multiple of {name}={getattr(self, name)}")


class EncoderLayer(nn.Module):
    """One post-norm layer of the transformer."""

    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], _: Any) -> tuple[Float[Array, "b t c"], Float[Array, "b t c"]]:
        """The layer's output twice: what the next one gets, and what the stack keeps."""
        x = layer_norm("attention_norm")(x + SelfAttention(self.heads, name="attention")(x))
        x = layer_norm("ffn_norm")(x + FeedForward(self.hidden, name="ffn")(x))
        return x, x


class SpeechEncoder(nn.Module):
    """The whole network, (b, samples) to the input of the first transformer layer and the output of every one."""

    config: SpeechConfig = SpeechConfig()

    @nn.compact
    def __call__(self, audio: Float[Array, "b n"], frames: int | None = None) -> Float[Array, "layers b t c"]:
        """Features of sound.

        Args:
            audio: 16 kHz, in [-1, 1]; at least 400 samples.
            frames: number of frames to which the convolutions' output is resized; as many as they give if None.

        Returns:
            (layers + 1, b, t, width); t is `frames`, or 1 + (n - 400) // 320. The last entry is the network's output.

        Raises:
            UserError: less than 400 samples.
        """
        config = self.config
        if audio.shape[1] < FIELD:
            raise UserError(f"{audio.shape[1]} samples are too short: one frame sees {FIELD}")
        x = audio[..., None]
        for i, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            x = nn.Conv(config.channels, (kernel,), stride, padding="VALID", use_bias=False, name=f"conv_{i}")(x)
            if i == 0:  # groups of one channel
                x = nn.GroupNorm(None, 1, epsilon=1e-5, use_fast_variance=False, name="conv_norm")(x)
            x = gelu(x)
        x = x if frames is None else resize(x, frames)
        x = nn.Dense(config.width, name="projection")(layer_norm("projection_norm")(x))
        self.param("mask", nn.initializers.uniform(), (config.width,))  # stands for masked frames, in training alone
        x = layer_norm("norm")(x + self._position(x))
        stack = nn.scan(EncoderLayer, {"params": 0}, split_rngs={"params": True}, length=config.layers)
        _, outputs = stack(config.heads, config.hidden, name="layers")(x, None)
        return jnp.concatenate([x[None], outputs])

    def _position(self, x: Float[Array, "b t c"]) -> Float[Array, "b t c"]:
        taps, groups = self.config.position_taps, self.config.position_groups
        position = nn.Conv(x.shape[-1], (taps,), padding=taps // 2, feature_group_count=groups, name="position")
        return gelu(position(x)[:, : x.shape[1]])  # an even kernel gives one frame too many


def resize(x: Float[Array, "b t c"], frames: int) -> Float[Array, "b frames c"]:
    """Linear interpolation in time with half-pixel centres: frame i lies at (i + 1/2) t / frames - 1/2, clamped."""
    count = x.shape[1]
    if frames == count:
        return x
    place = np.clip((np.arange(frames) + 0.5) * count / frames - 0.5, 0, count - 1)
    low = np.floor(place).astype(np.int32)
    share = jnp.asarray(place - low, x.dtype)[None, :, None]
    return x[:, low] * (1 - share) + x[:, np.minimum(low + 1, count - 1)] * share


def pad_audio(audio: Float[Array | np.ndarray, "b n"]) -> Float[Array, "b padded"]:
    """Sound lengthened at both ends so that n samples give n // 320 frames, as JoyVASA does it.

    With f = n // 320, both ends get ceil((320 f + 80 - n) / 2) samples: half of them by reflection, the other half by
    reflecting what the first reflection gave, and an odd one left over as a copy of the outermost sample. Sound of
    which more than 80 samples are left over behind the last whole frame stays as it is.
    """
    count = audio.shape[1]
    side = -((count - count // HOP * HOP - (FIELD - HOP)) // 2)
    audio = jnp.asarray(audio)
    if side <= 0:
        return audio
    for _ in range(2):
        audio = jnp.pad(audio, ((0, 0), (side // 2, side // 2)), mode="reflect")
    return jnp.pad(audio, ((0, 0), (side % 2, side % 2)), mode="edge")
