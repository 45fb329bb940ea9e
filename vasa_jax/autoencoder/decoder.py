"""G2D: the driven volume, its slices stacked as channels, becomes a picture (MegaPortraits section 3.1 and figure)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.encoders import depth_to_channels
from vasa_jax.nn.convolution import Convolution
from vasa_jax.nn.residual import Output, ResidualBlock
from vasa_jax.nn.resize import repeat
from vasa_jax.nn.stack import run_stack


class Decoder(nn.Module):
    """Residual blocks at the volume's resolution, then up to the picture's, nearest before each block."""

    config: AutoencoderConfig

    @nn.compact
    def __call__(self, volume: Float[Array, "b d h w c"]) -> Float[Array, "b height width 3"]:
        """Pictures in 0..1, float32."""
        size, dtype = self.config, self.config.compute_dtype
        x = depth_to_channels(volume)
        x = Convolution(size.decoder_width, (1, 1), standardised=False, dtype=dtype, name="from_volume")(x)
        x = run_stack(ResidualBlock(size.decoder_width, size.groups, dtype, name="blocks"), x, size.decoder_blocks)
        for index, width in enumerate(size.decoder_widths):
            x = repeat(x, (2, 2)) if index >= len(size.decoder_widths) - size.levels else x
            x = ResidualBlock(width, size.groups, dtype, name=f"up_{index}")(x)
        x = Output(3, size.groups, dtype, name="output")(x)
        return nn.sigmoid(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
