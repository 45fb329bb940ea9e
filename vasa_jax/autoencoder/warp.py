"""The two warps: to the canonical head and to the driven one (VASA-1 section 3.1, MegaPortraits section 3.1).

A generator turns e = identity map + projected dynamics code into a field of displacements f of the canonical volume,
in [-1, 1] per axis. With the head transform p' = s (p R) + t of `geometry.rotation`,

    canonical:  V_can(p) = V(s (p + f_c(p)) R + t)                                                               (1)
    driven:     V_d(p) = V_can(q + f_d(q)),   q = ((p - t) R^T) / s                                              (2)

Fields, poses and grids are float32 whatever the features' dtype.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.encoders import channels_to_depth
from vasa_jax.geometry.grid import grid_sample_3d, identity_grid, resize_linear
from vasa_jax.geometry.rotation import apply_pose, remove_pose
from vasa_jax.nn.convolution import Convolution
from vasa_jax.nn.residual import Output, ResidualBlock
from vasa_jax.nn.resize import enlarge

FLOW_GAIN = 0.1
"""Scale of the last convolution: its many inputs move together, and at full scale the first hundreds of Adam steps push
the field into the tanh's flat ends, the same for every code."""


class WarpGenerator(nn.Module):
    """A code map becomes a displacement field on the generator's own grid; it starts as zero everywhere."""

    config: AutoencoderConfig

    @nn.compact
    def __call__(self, code: Float[Array, "b 4 4 k"]) -> Float[Array, "b d h w 3"]:
        """Displacements (x, y, z), each in -1..1, float32."""
        size, dtype = self.config, self.config.compute_dtype
        start = Convolution(size.warp_channels * size.warp_depth, (1, 1), standardised=False, dtype=dtype, name="start")
        x = channels_to_depth(start(code), size.warp_depth)
        style = code.mean((1, 2))
        for index, (width, factors) in enumerate(zip(size.warp_widths, size.warp_upsampling, strict=True)):
            x = enlarge(ResidualBlock(width, size.groups, dtype, name=f"block_{index}")(x, style), factors)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        flow = Output(3, size.groups, zero=True, name="output")(x)
        return jnp.tanh(FLOW_GAIN * flow)


def warp_to_canonical(
    volume: Float[Array, "b d h w c"], flow: Float[Array, "b fd fh fw 3"], pose: Float[Array, "b 6"]
) -> Float[Array, "b d h w c"]:
    """Equation 1: undo the source's pose and expression."""
    _, depth, height, width, _ = volume.shape
    shape = (depth, height, width)
    points = identity_grid(*shape)[None] + resize_linear(flow, shape)
    return grid_sample_3d(volume, apply_pose(points, pose))


def warp_to_driven(
    volume: Float[Array, "b d h w c"],
    flow: Float[Array, "n fd fh fw 3"],
    pose: Float[Array, "n 6"],
    owners: Sequence[int] = (),
) -> Float[Array, "n d h w c"]:
    """Equation 2: give the canonical volume the driver's expression and pose; which volume, as in `share_out`.

    Raises:
        ValueError: the volumes cannot be shared out over the poses.
    """
    _, depth, height, width, _ = volume.shape
    shape = (depth, height, width)
    everywhere = jnp.broadcast_to(identity_grid(*shape)[None], (pose.shape[0], *shape, 3))
    points = remove_pose(everywhere, pose)
    return grid_sample_3d(volume, points + grid_sample_3d(resize_linear(flow, shape), points), owners)
