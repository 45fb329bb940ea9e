"""G, the SPADE generator: warped features to a picture (LivePortrait section 3.1; Park et al. 2019, GauGAN).

Every norm is bent by the features s that the whole network decodes:

    spade(x, s) = in(x) (1 + gamma) + beta,   [gamma, beta] = conv(relu(conv(s)))                                (1)

with in() an instance norm without parameters and s enlarged to the size of x by repetition. A 3x3 convolution of a
picture whose pixels are repeated sees at most 2x2 different pixels, so it is done on the small picture with summed taps
(`convolve_repeated`): 16 instead of 36 products a pixel for an enlargement by 2, 25 instead of 144 by 4.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.liveportrait.blocks import EPSILON, plain
from vasa_jax.nn.convolution import convolve_2d
from vasa_jax.nn.initialisers import scaled_uniform
from vasa_jax.nn.resize import repeat


def convolve_repeated(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c k"], factor: int
) -> Float[Array, "b height width k"]:
    """`convolve_2d(repeat(x, (factor, factor)), kernel)`, computed at the size of x.

    Along an axis the first of `factor` phases sees the cell before and its own (taps 0 and 1 + 2), the last its own
    and the next (taps 0 + 1 and 2), and those between see their own alone (all taps).
    """
    if factor == 1:
        return convolve_2d(x, kernel)
    b, h, w, _ = x.shape
    phases = ("before", *("own",) * (factor - 2), "after")
    parts = {}
    for row in set(phases):
        for column in set(phases):
            taps = _summed(_summed(kernel, row).swapaxes(0, 1), column).swapaxes(0, 1)
            padding = [_PADDING[row], _PADDING[column]]
            parts[row, column] = jax.lax.conv_general_dilated(
                x, taps, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
    rows = [jnp.stack([parts[row, column] for column in phases], 3) for row in phases]
    return jnp.stack(rows, 2).reshape(b, h * factor, w * factor, -1)


_PADDING = {"before": (1, 0), "own": (0, 0), "after": (0, 1)}
"""Cells of zeros before and behind an axis that a phase reaches for."""


def _summed(kernel: Float[Array, "3 taps c k"], phase: str) -> Float[Array, "phase_taps taps c k"]:
    """The taps of one phase along the first axis."""
    first, middle, last = kernel
    if phase == "own":
        return (first + middle + last)[None]
    return jnp.stack([first, middle + last] if phase == "before" else [first + middle, last])


def instance_normalise(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Mean 0 and (biased) variance 1 over the positions of each channel."""
    centred = x - x.mean((1, 2), keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 2), keepdims=True) + EPSILON)


class Spade(nn.Module):
    """Equation 1 behind in(); `modulation` gives gamma and beta in one convolution."""

    features: int

    @nn.compact
    def __call__(self, normalised: Float[Array, "b h w c"], seg: Float[Array, "b h2 w2 k"]) -> Float[Array, "b h w c"]:
        """Bend normalised features by `seg`, which is 1, 2, 4, ... times smaller."""
        shape = (3, 3, seg.shape[-1], 128)
        kernel = self.param("shared_kernel", scaled_uniform(2.0), shape)
        bias = self.param("shared_bias", nn.initializers.zeros, shape[-1:])
        hidden = convolve_repeated(seg, kernel, normalised.shape[1] // seg.shape[1]) + bias.reshape(1, 1, 1, -1)
        gamma, beta = jnp.split(plain(2 * self.features, 3, name="modulation")(nn.relu(hidden)), 2, -1)
        return normalised * (1.0 + gamma) + beta


class SpadeBlock(nn.Module):
    """A residual block with Spade before each convolution; its first norm is shared by branch and shortcut."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], seg: Float[Array, "b h2 w2 k"]) -> Float[Array, "b h w n"]:
        """Shortcut plus branch."""
        c, middle = x.shape[-1], min(x.shape[-1], self.features)
        normalised = instance_normalise(x)
        y = plain(middle, 3, name="conv_0")(_leaky(Spade(c, name="norm_0")(normalised, seg)))
        y = Spade(middle, name="norm_1")(instance_normalise(y), seg)
        y = plain(self.features, 3, name="conv_1")(_leaky(y))
        if c == self.features:
            return x + y
        return y + plain(self.features, 1, bias=False, name="conv_s")(Spade(c, name="norm_s")(normalised, seg))


def _leaky(x: Array) -> Array:
    return nn.leaky_relu(x, 0.2)


class SpadeGenerator(nn.Module):
    """The whole of G."""

    @nn.compact
    def __call__(self, features: Float[Array, "b 64 64 256"]) -> Float[Array, "b 512 512 3"]:
        """RGB pictures in 0..1 from what the warping module gives."""
        x = plain(512, 3, name="fc")(features)
        for i in range(6):
            x = SpadeBlock(512, name=f"middle_{i}")(x, features)
        for i, width in enumerate((256, 64)):
            x = SpadeBlock(width, name=f"up_{i}")(repeat(x, (2, 2)), features)
        x = plain(12, 3, name="out")(_leaky(x))
        b, h, w, _ = x.shape
        shuffled = x.reshape(b, h, w, 3, 2, 2).transpose(0, 1, 4, 2, 5, 3)  # channel = (colour, row, column)
        return nn.sigmoid(shuffled.reshape(b, 2 * h, 2 * w, 3))
