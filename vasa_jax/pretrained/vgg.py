"""VGG networks (Simonyan and Zisserman 2014, arXiv 1409.1556) as maps from a picture to its features at several depths.

Perceptual losses compare such features (Johnson et al. 2016, arXiv 1603.08155). MegaPortraits (section 3.3) uses three
networks, which are three configs of one stack: VGG19 trained on ImageNet, read behind the first convolution of every
block as in the first order motion model (Siarohin et al. 2019), a face network and a gaze network, both VGG16 in shape.

The stack is blocks of 3x3 convolutions, a ReLU behind each, and a maximum over 2x2 pixels between blocks. Layers are
named as in papers: relu3_1 lies behind the first convolution of the third block. The classifier is left out.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.errors import UserError
from vasa_jax.nn.convolution import Convolution
from vasa_jax.nn.resize import max_pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """The layout of a stack and what it expects; the defaults are VGG19 as torchvision trained it on ImageNet."""

    blocks: tuple[int, ...] = (2, 2, 4, 4, 4)  # convolutions in each block
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # channels of each block
    layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")  # that are read, in their order
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of red, green, blue, for pictures in 0..1
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)  # that they are divided by

    def __post_init__(self):
        if not self.blocks or len(self.blocks) != len(self.widths) or min(*self.blocks, *self.widths) < 1:
            raise UserError(f"{self.blocks=} and {self.widths=} must have one number of 1 or more for each block")
        there = [f"relu{block}_{place}" for block, count in enumerate(self.blocks, 1) for place in range(1, count + 1)]
        if not self.layers or [name for name in there if name in self.layers] != list(self.layers):
            raise UserError(f"{self.layers=} must name some of {', '.join(there)}, in this order and each once")
        if min(self.deviation) <= 0.0:
            raise UserError(f"{self.deviation=} must be positive")

    @property
    def divisor(self) -> int:
        """What the sides of a picture must be multiples of, so that every maximum is over whole pairs of pixels."""
        return 2 ** (int(self.layers[-1].removeprefix("relu").partition("_")[0]) - 1)


VGG19 = VGGConfig()
VGG16 = VGGConfig(blocks=(2, 2, 3, 3, 3))
VGGFACE = VGGConfig(
    blocks=(2, 2, 3, 3, 3), mean=(129.1863 / 255, 104.7624 / 255, 93.5940 / 255), deviation=(1 / 255, 1 / 255, 1 / 255)
)
"""VGGFace (Parkhi et al. 2015): VGG16 on faces, whose pictures are 0..255 less the mean face's colour."""


class VGG(nn.Module):
    """The convolutions `conv1_1`, `conv1_2`, ... of a stack."""

    config: VGGConfig

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b height width channels"], ...]:
        """The features of pictures in 0..1 at `config.layers`, computed in the dtype of the pictures.

        Raises UserError for sides that are no multiples of `config.divisor`.
        """
        config, dtype = self.config, pictures.dtype
        if pictures.shape[1] % config.divisor or pictures.shape[2] % config.divisor:
            size = f"{pictures.shape[1]}x{pictures.shape[2]}"
            raise UserError(f"pictures of {size} for a VGG must have sides that are multiples of {config.divisor}")
        mean, deviation = (jnp.asarray(part, dtype)[None, None, None] for part in (config.mean, config.deviation))
        x, found = (pictures - mean) / deviation, []
        for block, (count, width) in enumerate(zip(config.blocks, config.widths, strict=True), 1):
            x = max_pool(x) if block > 1 else x
            for place in range(1, count + 1):
                x = nn.relu(Convolution(width, (3, 3), standardised=False, dtype=dtype, name=f"conv{block}_{place}")(x))
                found += [x] if f"relu{block}_{place}" in config.layers else []
                if len(found) == len(config.layers) and not self.is_initializing():
                    return tuple(found)  # what lies deeper is in the weights, and not read
        return tuple(found)


def init(config: VGGConfig, key: Array) -> Any:
    """Random variables of the whole stack, float32."""
    side = 2 ** (len(config.blocks) - 1)
    return VGG(config).init(key, jnp.zeros((1, side, side, 3), jnp.float32))


def features(
    config: VGGConfig, params: Any, pictures: Float[Array, "b h w 3"]
) -> tuple[Float[Array, "b height width channels"], ...]:
    """Features of pictures in 0..1; errors as of `VGG`. `params` are the variables of the module."""
    found: Any = VGG(config).apply(params, pictures)
    return found
