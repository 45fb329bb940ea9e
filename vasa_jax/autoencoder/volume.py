"""G3D: the U-Net that cleans the source's canonical volume, once a portrait (MegaPortraits section 3.1 and figure).

Two levels below the volume: the first halves height and width (and doubles the depth, in the paper-size network), the
second halves everything. Skips pass a residual block of their own and are added before each enlargement. The U-Net
gives a correction that starts at zero, V + U(V): the paper's table has no such sum, which costs nothing and lets the
volume through from the first step.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.nn.residual import Output, ResidualBlock
from vasa_jax.nn.resize import average_pool, enlarge


class CanonicalNetwork(nn.Module):
    """The U-Net; input and output have the shape of the appearance volume."""

    config: AutoencoderConfig

    @nn.compact
    def __call__(self, volume: Float[Array, "b d h w c"]) -> Float[Array, "b d h w c"]:
        """Canonical volume of a portrait, ready for any motion."""
        size, dtype = self.config, self.config.compute_dtype
        outer, inner, bottom = size.canonical_widths
        depth = size.canonical_depth_factor

        def block(x: Array, width: int, name: str) -> Array:
            return ResidualBlock(width, size.groups, dtype, name=name)(x)

        x = average_pool(block(volume, outer, "down_0"), (1, 2, 2))
        first = enlarge(x, (depth, 1, 1))
        second = average_pool(block(first, inner, "down_1"), (2, 2, 2))
        x = block(block(second, bottom, "middle_0"), bottom, "middle_1")
        x = block(x, inner, "up_1") + block(second, inner, "skip_1")
        x = block(enlarge(x, (2, 2, 2)), outer, "up_0") + block(first, outer, "skip_0")
        x = average_pool(enlarge(x, (1, 2, 2)), (depth, 1, 1))
        x = block(x, size.volume_channels, "last")
        return volume + Output(size.volume_channels, size.groups, dtype, zero=True, name="output")(x)
