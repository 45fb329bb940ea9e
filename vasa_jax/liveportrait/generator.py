"""G, the SPADE generator: warped features to a picture (LivePortrait section 3.1; Park et al. 2019, GauGAN).

Every norm is bent by the features s that the whole network decodes:

    spade(x, s) = in(x) (1 + gamma) + beta,   [gamma, beta] = conv(relu(conv(s)))                                (1)

with in() an instance norm without parameters and s enlarged to the size of x by repetition, so that the inner
convolution is done at the size of s (`convolve_repeated`). Norms compute in float32 whatever the features' dtype.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.liveportrait.blocks import EPSILON, plain
from vasa_jax.nn.convolution import convolve_repeated
from vasa_jax.nn.initialisers import scaled_uniform
from vasa_jax.nn.resize import repeat


def instance_normalise(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Mean 0 and (biased) variance 1 over the positions of each channel."""
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = exact - exact.mean((1, 2), keepdims=True)
    return (centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 2), keepdims=True) + EPSILON)).astype(x.dtype)


class Spade(nn.Module):
    """Equation 1 behind in(); `modulation` gives gamma and beta in one convolution."""

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, normalised: Float[Array, "b h w c"], seg: Float[Array, "b h2 w2 k"]) -> Float[Array, "b h w c"]:
        """Bend normalised features by `seg`, which is 1, 2, 4, ... times smaller."""
        shape = (3, 3, seg.shape[-1], 128)
        kernel = self.param("shared_kernel", scaled_uniform(2.0), shape)
        bias = self.param("shared_bias", nn.initializers.zeros, shape[-1:])
        hidden = convolve_repeated(seg, kernel, normalised.shape[1] // seg.shape[1])
        hidden = nn.relu(hidden + bias.astype(hidden.dtype).reshape(1, 1, 1, -1))
        gamma, beta = jnp.split(plain(2 * self.features, 3, name="modulation", dtype=self.dtype)(hidden), 2, -1)
        return normalised * (1.0 + gamma) + beta


class SpadeBlock(nn.Module):
    """A residual block with Spade before each convolution; its first norm is shared by branch and shortcut."""

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], seg: Float[Array, "b h2 w2 k"]) -> Float[Array, "b h w n"]:
        """Shortcut plus branch."""
        c, middle, dtype = x.shape[-1], min(x.shape[-1], self.features), self.dtype
        normalised = instance_normalise(x)
        y = plain(middle, 3, name="conv_0", dtype=dtype)(_leaky(Spade(c, dtype, name="norm_0")(normalised, seg)))
        y = Spade(middle, dtype, name="norm_1")(instance_normalise(y), seg)
        y = plain(self.features, 3, name="conv_1", dtype=dtype)(_leaky(y))
        if c == self.features:
            return x + y
        shortcut = plain(self.features, 1, name="conv_s", bias=False, dtype=dtype)
        return y + shortcut(Spade(c, dtype, name="norm_s")(normalised, seg))


def _leaky(x: Array) -> Array:
    return nn.leaky_relu(x, 0.2)


class SpadeGenerator(nn.Module):
    """The whole of G. `dtype` is that of features while computing, None float32; pictures are float32 in any case."""

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: Float[Array, "b h w 256"]) -> Float[Array, "b height width 3"]:
        """RGB pictures in 0..1, eight times as large, from what the warping module gives."""
        dtype = self.dtype
        features = features.astype(dtype or features.dtype)
        x = plain(512, 3, name="fc", dtype=dtype)(features)
        for i in range(6):
            x = SpadeBlock(512, dtype, name=f"middle_{i}")(x, features)
        for i, width in enumerate((256, 64)):
            x = SpadeBlock(width, dtype, name=f"up_{i}")(repeat(x, (2, 2)), features)
        x = plain(12, 3, name="out", dtype=dtype)(_leaky(x))
        b, h, w, _ = x.shape
        shuffled = x.reshape(b, h, w, 3, 2, 2).transpose(0, 1, 4, 2, 5, 3)  # channel = (colour, row, column)
        x = shuffled.reshape(b, 2 * h, 2 * w, 3)
        return nn.sigmoid(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
