"""Convolutions, channels last, with optional weight standardisation (Qiao et al. 2019, arXiv 1903.10520).

A standardised kernel has, for every output channel, mean 0 over its taps and inputs and the spread of He's
initialisation,

    w' = (w - mean w) sqrt(2 / (fan_in var w))                                                                   (1)

so the output keeps the input's scale whatever the length of w. There is no learned gain: a normalisation follows.

A 3-D convolution has two equal forms. Accelerators run it as it is. XLA's CPU back end is many times slower on it than
on 2-D convolutions, so there the kernel's depth taps become SAME 2-D convolutions of all slices, shifted along depth
and added (`depth_split`). `jax.lax.platform_dependent` picks the form when the program is lowered, so one traced
program serves every platform.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.nn.initialisers import scaled_uniform


def convolve_2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c k"], stride: int = 1
) -> Float[Array, "b height width k"]:
    """2-D convolution with odd kernels, zero padding of half a kernel on every side, and the given stride."""
    padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolve_3d_direct(x: Float[Array, "b d h w c"], kernel: Float[Array, "kd kh kw c k"]) -> Float[Array, "b d h w k"]:
    """3-D convolution, stride 1, zero padding to the same size, as one operation."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))


def convolve_3d_depth_split(
    x: Float[Array, "b d h w c"], kernel: Float[Array, "kd kh kw c k"]
) -> Float[Array, "b d h w k"]:
    """The same function as `convolve_3d_direct`, as one 2-D convolution per depth tap and shifted sums."""
    batch, depth, height, width, channels = x.shape
    slices = x.reshape(batch * depth, height, width, channels)
    total = jnp.zeros((batch, depth, height, width, kernel.shape[-1]), x.dtype)
    for tap in range(kernel.shape[0]):
        y = convolve_2d(slices, kernel[tap]).reshape(total.shape)
        total = total + _shift_depth(y, kernel.shape[0] // 2 - tap)
    return total


def _shift_depth(x: Float[Array, "b d h w c"], by: int) -> Float[Array, "b d h w c"]:
    """Move slices by the given number of places along depth, zeros entering at the end."""
    if abs(by) >= x.shape[1]:
        return jnp.zeros_like(x)
    zeros = jnp.zeros_like(x[:, : abs(by)])
    if by > 0:
        return jnp.concatenate([zeros, x[:, :-by]], axis=1)
    return jnp.concatenate([x[:, -by:], zeros], axis=1) if by else x


def convolve_3d(x: Float[Array, "b d h w c"], kernel: Float[Array, "kd kh kw c k"]) -> Float[Array, "b d h w k"]:
    """3-D convolution, stride 1, zero padding to the same size, in the form that suits the platform."""
    return jax.lax.platform_dependent(x, kernel, cpu=convolve_3d_depth_split, default=convolve_3d_direct)


def standardise(kernel: Float[Array, "*taps c k"]) -> Float[Array, "*taps c k"]:
    """Equation 1, in the parameters' float32: every output channel gets mean 0 and variance 2 / fan_in."""
    axes = tuple(range(kernel.ndim - 1))
    centred = kernel - kernel.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance * (0.5 * math.prod(kernel.shape[:-1])) + 1e-8)


class Convolution(nn.Module):
    """A 2-D or 3-D convolution over the last `len(kernel_size) + 1` axes, padded to keep the size at stride 1.

    Parameters start as float32 (`kernel`, and `bias` if asked for); the product is computed in `dtype`, None follows
    input and parameters.
    """

    features: int
    kernel_size: tuple[int, ...]
    stride: int = 1  # 2-D only
    use_bias: bool = True
    standardised: bool = True
    dtype: DTypeLike | None = None
    kernel_init: Callable = scaled_uniform(2.0)

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *resized k"]:
        """Convolve a batch; raises ValueError for a stride in 3-D."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features), jnp.float32)
        if self.standardised:
            kernel = standardise(kernel)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        if len(self.kernel_size) == 2:
            y = convolve_2d(x, kernel, self.stride)
        elif self.stride == 1:
            y = convolve_3d(x, kernel)
        else:
            raise ValueError(f"{self.stride=} is not offered for 3-D convolutions: resize before or after")
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(y.dtype)
            y = y + bias.reshape(*(1,) * (y.ndim - 1), -1)
        return y
