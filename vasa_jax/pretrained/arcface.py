"""ArcFace (Deng et al. 2019, arXiv 1801.07698): a code of unit length that tells who is seen, whatever the face does.

The cosine between two codes is near 1 for pictures of one person and near 0 for two people. The network is the
"improved ResNet" of that project's public weights (arcface_torch; 50 and 100 layers), with its batch norms' statistics:
a residual block is norm, 3x3 convolution, norm, PReLU, 3x3 convolution of the block's stride, norm; nothing follows the
sum.

It was trained on faces of 112x112 pixels that a similarity brought to one template: eyes at (38.3, 51.7) and (73.5,
51.5), corners of the mouth at (41.5, 92.4) and (70.7, 92.2) (x and y from the centre of the first pixel). Ours come
from the upright face crop at the head's pose (`geometry.picture.face_crop`), which is of constant size and does not
follow the eyes. Over 49 faces from eight films and eleven portraits, painted ones too, turned by 0.3 radians at most,
the similarity from that crop to the template that fits best has 100.5 pixels a head unit and the crop's centre at
(56.3, 60.7); eyes and mouth then lie 2.7 pixels off, root mean square. So a crop of 122 pixels that reaches 0.6 units
has the scale (60.5 / 0.6 = 100.8), and its first 112 rows and middle 112 columns have the place: there the centre is at
(55.5, 60.5).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.errors import UserError
from vasa_jax.nn.convolution import Convolution
from vasa_jax.nn.stack import run_stack

SIZE = 112
"""Side of the network's pictures in pixels."""
CROP = 122
"""Side of the face crops that `embed` takes."""
REACH = 0.6
"""Half their side in canonical head units."""
_LEFT = (CROP - SIZE) // 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArcFaceConfig:
    """Sizes; the defaults are IResNet-50's."""

    stages: tuple[int, int, int, int] = (3, 4, 14, 3)  # blocks; each stage halves the picture and doubles the width
    width: int = 64  # channels of the first stage
    code: int = 512  # numbers that tell who it is

    def __post_init__(self):
        if min(*self.stages, self.width, self.code) < 1:
            raise UserError(f"{self.stages=}, {self.width=} and {self.code=} must be 1 or more")


IRESNET_50 = ArcFaceConfig()
IRESNET_100 = ArcFaceConfig(stages=(3, 13, 30, 3))


class Block(nn.Module):
    """A residual block; where it halves the picture, the skip is a 1x1 convolution and a norm."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b height width k"]:
        """Apply the block."""
        dtype = x.dtype
        y = _convolution(self.width, 3, 1, dtype, "conv_0")(_norm(dtype, "norm_0")(x))
        y = PReLU(name="prelu")(_norm(dtype, "norm_1")(y))
        y = _norm(dtype, "norm_2")(_convolution(self.width, 3, self.stride, dtype, "conv_1")(y))
        if self.stride > 1:
            x = _norm(dtype, "skip_norm")(_convolution(self.width, 1, self.stride, dtype, "skip")(x))
        return x + y


class PReLU(nn.Module):
    """Below zero, a slope of its own for every channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Apply it."""
        slope = self.param("slope", nn.initializers.constant(0.25), x.shape[-1:], jnp.float32).astype(x.dtype)
        return jnp.where(x >= 0.0, x, slope[None, None, None] * x)


class Trunk(nn.Module):
    """The convolutions."""

    config: ArcFaceConfig

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b height width channels"], ...]:
        """The maps behind each of the four stages, at 1/2 to 1/16 of the picture's side, in the pictures' dtype."""
        config, dtype, maps = self.config, pictures.dtype, []
        x = 2.0 * pictures - 1.0
        x = _norm(dtype, "stem_norm")(_convolution(config.width, 3, 1, dtype, "stem")(x))
        x = PReLU(name="stem_prelu")(x)
        for stage, blocks in enumerate(config.stages):
            width = config.width * 2**stage
            x = Block(width, 2, name=f"stage_{stage}_first")(x)
            if blocks > 1:
                x = run_stack(Block(width, 1, name=f"stage_{stage}_rest"), x, blocks - 1)
            maps.append(x)
        return tuple(maps)


class ArcFace(nn.Module):
    """Trunk and head."""

    config: ArcFaceConfig

    @nn.compact
    def __call__(self, faces: Float[Array, "b 112 112 3"]) -> Float[Array, "b k"]:
        """Codes of faces in 0..1 that lie as the template does: not of unit length, float32 at least."""
        x = Trunk(self.config, name="trunk")(faces)[-1]
        x = _norm(x.dtype, "norm")(x)
        x = x.reshape(len(x), -1).astype(jnp.promote_types(x.dtype, jnp.float32))
        return _norm(x.dtype, "code_norm")(nn.Dense(self.config.code, name="code")(x))


def init(config: ArcFaceConfig, key: Array) -> Any:
    """Random variables (`params` and the norms' `batch_stats`), float32."""
    return ArcFace(config).init(key, jnp.zeros((1, SIZE, SIZE, 3), jnp.float32))


def features(
    config: ArcFaceConfig, params: Any, pictures: Float[Array, "b h w 3"]
) -> tuple[Float[Array, "b height width channels"], ...]:
    """Maps of pictures in 0..1 of any size, as of `Trunk`. `params` are the variables of `ArcFace`."""
    maps: Any = Trunk(config).apply({name: part["trunk"] for name, part in params.items()}, pictures)
    return maps


def embed(config: ArcFaceConfig, params: Any, crops: Float[Array, "b 122 122 3"]) -> Float[Array, "b k"]:
    """Codes of unit length of upright face crops in 0..1 that reach `REACH` head units; `params` as of `features`.

    Crops are looked up without a filter: average a picture down before where a head unit has more than 200 pixels.
    """
    codes: Any = ArcFace(config).apply(params, _aligned(crops))
    return codes / jnp.sqrt(jnp.square(codes).sum(-1, keepdims=True) + 1e-12)


def _aligned(crops: Float[Array, "b 122 122 c"]) -> Float[Array, "b 112 112 c"]:
    """The part of the crops in which eyes and mouth lie as in the template."""
    return crops[:, :SIZE, _LEFT : _LEFT + SIZE]


def _convolution(features: int, size: int, stride: int, dtype: DTypeLike, name: str) -> Convolution:
    return Convolution(features, (size, size), stride, use_bias=False, standardised=False, dtype=dtype, name=name)


def _norm(dtype: DTypeLike, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, dtype=dtype, name=name)
