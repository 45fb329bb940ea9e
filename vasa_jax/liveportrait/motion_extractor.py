"""M, the motion extractor: a ConvNeXt V2 Tiny (Woo et al. 2023) with seven linear heads (LivePortrait section 3.1).

A block is x + project(grn(gelu(expand(norm(depthwise 7x7 of x))))) with global response normalisation

    g = |y| over positions,   n = g / (mean of g over channels + 1e-6),   grn(y) = gamma (y n) + beta + y        (1)

Layer norms are over channels with epsilon 1e-6; GELU is the exact one.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

HEADS = {"pitch": 66, "yaw": 66, "roll": 66, "t": 3, "exp": 63, "scale": 1, "kp": 63}
"""Outputs of each head: bins of the three angles (`keypoints.head_pose_degrees`), then plain numbers."""

_DEPTHS, _WIDTHS, _EPSILON = (3, 3, 9, 3), (96, 192, 384, 768), 1e-6


class GlobalResponseNorm(nn.Module):
    """Equation 1; parameters `gamma` and `beta`, (1, 1, 1, c)."""

    @nn.compact
    def __call__(self, y: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Scale each channel by its share of the response."""
        shape = (1, 1, 1, y.shape[-1])
        gamma, beta = (self.param(name, nn.initializers.zeros, shape) for name in ("gamma", "beta"))
        norm = jnp.sqrt(jnp.square(y).sum((1, 2), keepdims=True))
        share = norm / (norm.mean(-1, keepdims=True) + _EPSILON)
        return gamma * (y * share) + beta + y


class Block(nn.Module):
    """One residual block of ConvNeXt V2."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Add the branch."""
        c = x.shape[-1]
        y = nn.Conv(c, (7, 7), padding=3, feature_group_count=c, name="dwconv")(x)
        y = nn.Dense(4 * c, name="pwconv1")(nn.LayerNorm(_EPSILON, name="norm")(y))
        y = GlobalResponseNorm(name="grn")(nn.gelu(y, approximate=False))
        return x + nn.Dense(c, name="pwconv2")(y)


class MotionExtractor(nn.Module):
    """The whole of M."""

    @nn.compact
    def __call__(self, image: Float[Array, "b 256 256 3"]) -> dict[str, Float[Array, "b k"]]:
        """The raw heads of HEADS for RGB pictures in 0..1; `exp` and `kp` are 21 points, x, y, z each."""
        x = image
        for stage, (depth, width) in enumerate(zip(_DEPTHS, _WIDTHS, strict=True)):
            step = 2 if stage else 4
            norm = nn.LayerNorm(_EPSILON, name=f"downsample_{stage}_norm")
            convolution = nn.Conv(width, (step, step), step, padding="VALID", name=f"downsample_{stage}_conv")
            x = convolution(norm(x)) if stage else norm(convolution(x))
            for i in range(depth):
                x = Block(name=f"stages_{stage}_{i}")(x)
        x = nn.LayerNorm(_EPSILON, name="norm")(x.mean((1, 2)))
        return {name: nn.Dense(size, name=f"fc_{name}")(x) for name, size in HEADS.items()}
