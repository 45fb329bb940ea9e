"""F, the appearance feature extractor: a portrait to its appearance volume (LivePortrait section 3.1).

Three 3x3 convolutions bring 256x256 pixels to 64x64 features, a 1x1 convolution widens them to 512 channels, which
become 32 channels at 16 depths; six pre-activation 3-D residual blocks follow.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from vasa_jax.liveportrait.blocks import BatchNorm, ConvolutionNorm, channels_to_depth, plain
from vasa_jax.nn.resize import average_pool

DEPTH = 16


class ResidualBlock3D(nn.Module):
    """x + conv2(relu(norm2(conv1(relu(norm1(x))))))."""

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w c"]:
        """Add the branch."""
        y = x
        for i in (1, 2):
            y = plain(x.shape[-1], 3, 3, f"conv{i}")(nn.relu(BatchNorm(name=f"norm{i}")(y)))
        return x + y


class AppearanceFeatureExtractor(nn.Module):
    """The whole of F."""

    @nn.compact
    def __call__(self, image: Float[Array, "b 256 256 3"]) -> Float[Array, "b 16 64 64 32"]:
        """The appearance volume of RGB pictures in 0..1."""
        x = ConvolutionNorm(64, name="first")(image)
        for i, features in enumerate((128, 256)):
            x = average_pool(ConvolutionNorm(features, name=f"down_blocks_{i}")(x), (2, 2))
        x = channels_to_depth(plain(512, 1, name="second")(x), DEPTH)
        for i in range(6):
            x = ResidualBlock3D(name=f"resblocks_{i}")(x)
        return x
