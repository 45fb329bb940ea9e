"""Pre-activation residual blocks (He et al. 2016) in two and three dimensions: MegaPortraits' RB2D and RB3D.

    RB(x) = skip(x) + conv(relu(norm(conv(relu(norm(x))))))

with 3x3(x3) convolutions; skip is the identity, or one more such convolution where the width changes. With a code, both
norms are adaptive.

A standardised kernel has its full length from the first step, so a deep stack of such blocks starts as a random mixer
that colours hardly survive. Blocks without a code therefore start near their skip: the second norm scales by
BRANCH_START, and a convolution on the skip starts at its centre tap alone (as SkipInit and Fixup start residual
networks, De and Smith 2020, Zhang et al. 2019; with a ReLU after the norm an exact zero would never learn).
"""

import flax.linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.nn.convolution import Convolution
from vasa_jax.nn.initialisers import centre_uniform, scaled_uniform
from vasa_jax.nn.normalisation import AdaptiveGroupNorm, GroupNorm

BRANCH_START = 0.1
"""First scale of the second norm of a block without a code."""


class ResidualBlock(nn.Module):
    """RB2D for (b, h, w, c) and RB3D for (b, d, h, w, c) inputs."""

    features: int
    groups: int = 32
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *space c"], code: Float[Array, "b k"] | None = None
    ) -> Float[Array, "b *space features"]:
        """Apply the block; `code` makes its norms adaptive."""
        kernel = (3,) * (x.ndim - 2)
        y = x
        for index in range(2):
            if code is None:
                y = GroupNorm(self.groups, BRANCH_START if index else 1.0, name=f"norm_{index}")(y)
            else:
                y = AdaptiveGroupNorm(self.groups, name=f"norm_{index}")(y, code)
            y = Convolution(self.features, kernel, dtype=self.dtype, name=f"conv_{index}")(nn.relu(y))
        if x.shape[-1] != self.features:
            skip = Convolution(self.features, kernel, dtype=self.dtype, kernel_init=centre_uniform(), name="skip")
            x = skip(x)
        return x + y


class Output(nn.Module):
    """The end of a stack: GroupNorm, ReLU and one plain convolution (no weight standardisation)."""

    features: int
    groups: int = 32
    dtype: DTypeLike | None = None
    zero: bool = False  # start the convolution at zero

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space features"]:
        """Apply the three layers."""
        init = nn.initializers.zeros if self.zero else scaled_uniform(1.0)
        x = nn.relu(GroupNorm(self.groups, name="norm")(x))
        kernel = (3,) * (x.ndim - 2)
        conv = Convolution(self.features, kernel, standardised=False, dtype=self.dtype, kernel_init=init, name="conv")
        return conv(x)
