"""The four encoders of VASA-1 section 3.1: appearance, identity, head pose and facial dynamics, each on its own.

Layers as in MegaPortraits' figure; sizes come from `AutoencoderConfig`. Pictures are (b, h, w, 3) in 0..1.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.autoencoder.config import CODE_CELLS, AutoencoderConfig
from vasa_jax.nn.convolution import Convolution
from vasa_jax.nn.gathering import Dense
from vasa_jax.nn.initialisers import scaled_uniform
from vasa_jax.nn.normalisation import GroupNorm
from vasa_jax.nn.residual import ResidualBlock
from vasa_jax.nn.resize import average_pool, repeat
from vasa_jax.nn.resnet import ResNet
from vasa_jax.nn.stack import run_stack


def channels_to_depth(x: Float[Array, "b h w cd"], depth: int) -> Float[Array, "b d h w c"]:
    """Fold channels into slices: channel c * depth + d becomes channel c of slice d."""
    return jnp.moveaxis(x.reshape(*x.shape[:3], -1, depth), -1, 1)


def depth_to_channels(x: Float[Array, "b d h w c"]) -> Float[Array, "b h w cd"]:
    """Unfold slices into channels; inverts `channels_to_depth`."""
    y = jnp.moveaxis(x, 1, -1)
    return y.reshape(*y.shape[:3], -1)


def shrink(image: Float[Array, "b h w 3"], size: int) -> Float[Array, "b size size 3"]:
    """Average a square picture down to the given side, which must divide its own."""
    factor = image.shape[1] // size
    return average_pool(image, (factor, factor)) if factor > 1 else image


class AppearanceEncoder(nn.Module):
    """E_app: the picture becomes a feature volume in the picture's own pose."""

    config: AutoencoderConfig

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b depth height width c"]:
        """Posed volume of (b, *config.volume_shape)."""
        size, dtype = self.config, self.config.compute_dtype
        x = 2.0 * image - 1.0
        x = Convolution(size.appearance_stem, (7, 7), standardised=False, dtype=dtype, name="stem")(x)
        for index, width in enumerate(size.appearance_widths):
            x = ResidualBlock(width, size.groups, dtype, name=f"block_{index}")(x)
            x = average_pool(x, (2, 2)) if index < size.levels else x
        x = nn.relu(GroupNorm(size.groups, name="norm")(x))
        x = Convolution(size.volume_channels * size.volume_depth, (1, 1), dtype=dtype, name="to_volume")(x)
        x = channels_to_depth(x, size.volume_depth)
        block = ResidualBlock(size.volume_channels, size.groups, dtype, name="volume_blocks")
        return run_stack(block, x, size.appearance_blocks)


class IdentityEncoder(nn.Module):
    """Who it is: a map of 4x4 cells; its mean over the cells is the identity code z_id."""

    config: AutoencoderConfig

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b 4 4 k"]:
        """Identity map, float32, of mean square 1: it must not drown the dynamics code that is added to it."""
        size, dtype = self.config, self.config.compute_dtype
        image = shrink(image, size.identity_image_size)
        x = ResNet(size.identity_stages, size.identity_width, True, size.groups, dtype, name="resnet")(image)
        cells = x.shape[1]
        if cells >= CODE_CELLS:
            x = average_pool(x, (cells // CODE_CELLS,) * 2)
        else:
            x = repeat(x, (CODE_CELLS // cells,) * 2)
        head = Convolution(
            size.identity_channels, (1, 1), standardised=False, kernel_init=scaled_uniform(), name="head"
        )
        x = head(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
        return x * jax.lax.rsqrt(jnp.square(x).mean((1, 2, 3), keepdims=True) + 1e-6)


class MotionEncoder(nn.Module):
    """What moves: a ResNet, its mean over the picture, and a linear head. One instance for pose, one for dynamics."""

    config: AutoencoderConfig
    features: int
    scale: float  # standard deviation of the untrained head's outputs, over that of a unit-variance linear layer

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b features"]:
        """One float32 vector a picture."""
        size = self.config
        x = ResNet(size.motion_stages, size.motion_width, False, size.groups, size.compute_dtype, name="resnet")(image)
        head = Dense(self.features, kernel_init=scaled_uniform(self.scale**2), name="head")
        return head(x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2)))
