"""ResNets (He et al. 2015) with GroupNorm and weight standardisation instead of BatchNorm, without a classifier.

Stages (2, 2, 2, 2) of two-layer blocks at width 64 are ResNet-18; stages (3, 4, 6, 3) of bottlenecks at width 64 are
ResNet-50. A stage's first block may change width and resolution; the rest, equal ones, are a stack (`nn.stack`).
Convolutions have no biases, as in the original. The first pooling takes maxima of 2x2 blocks (the original: 3x3,
overlapping), which needs no scatter in its gradient.
"""

from functools import partial

import flax.linen as nn
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.nn.convolution import Convolution
from vasa_jax.nn.normalisation import GroupNorm
from vasa_jax.nn.resize import max_pool
from vasa_jax.nn.stack import run_stack


class ResNetBlock(nn.Module):
    """Post-activation residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 to four times the width."""

    width: int
    stride: int
    bottleneck: bool
    groups: int
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b height width k"]:
        """Apply the block."""
        if self.bottleneck:
            layers = ((self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1))
        else:
            layers = ((self.width, 3, self.stride), (self.width, 3, 1))
        y = x
        for index, (features, size, stride) in enumerate(layers):
            y = nn.relu(y) if index else y
            y = self._layer(y, features, size, stride, f"{index}")
        if x.shape != y.shape:
            x = self._layer(x, y.shape[-1], 1, self.stride, "skip")
        return nn.relu(x + y)

    def _layer(self, x: Array, features: int, size: int, stride: int, name: str) -> Array:
        x = Convolution(features, (size, size), stride, use_bias=False, dtype=self.dtype, name=f"conv_{name}")(x)
        return GroupNorm(self.groups, name=f"norm_{name}")(x)


class ResNet(nn.Module):
    """With four stages, feature maps at 1/32 of the input's side, of 8 (or, with bottlenecks, 32) times `width`
    channels; each stage less doubles the side and halves the channels.
    """

    stages: tuple[int, ...] = (2, 2, 2, 2)  # blocks in each stage; the width doubles from stage to stage
    width: int = 64
    bottleneck: bool = False
    groups: int = 32
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b height width k"]:
        """Features of images in 0..1 whose sides are multiples of 2^(stages + 1)."""
        (image,) = promote_dtype(image, dtype=self.dtype)
        x = 2.0 * image - 1.0
        x = Convolution(self.width, (7, 7), 2, use_bias=False, standardised=False, dtype=self.dtype, name="stem")(x)
        x = max_pool(nn.relu(GroupNorm(self.groups, name="stem_norm")(x)))
        for stage, blocks in enumerate(self.stages):
            width, stride = self.width * 2**stage, 2 if stage else 1
            block = partial(ResNetBlock, width, bottleneck=self.bottleneck, groups=self.groups, dtype=self.dtype)
            x = block(stride, name=f"stage_{stage}_first")(x)
            if blocks > 1:
                x = run_stack(block(1, name=f"stage_{stage}_rest"), x, blocks - 1)
        return x
