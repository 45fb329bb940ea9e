"""Convolutions, channels last, with optional weight standardisation (Qiao et al. 2019, arXiv 1903.10520).

A standardised kernel has, for every output channel, mean 0 over its taps and inputs and the spread of He's
initialisation,

    w' = (w - mean w) sqrt(2 / (fan_in var w))                                                                   (1)

so the output keeps the input's scale whatever the length of w. There is no learned gain: a normalisation follows.

A 3-D convolution has two equal forms. Accelerators run it as it is. XLA's CPU back end is many times slower on it than
on 2-D convolutions, so there it becomes 2-D convolutions of slices (`convolve_3d_depth_split`).
`jax.lax.platform_dependent` picks the form when the program is lowered, so one traced program serves every platform.

XLA's CPU back end turns the gradients of a convolution into its fast form in a program's main computation alone. Inside
`lax.cond`, `lax.scan` and their like they would run 10 to 35 times as long, so on CPUs they are written in that form.

A network has the same convolution many times. It is traced once for each shape (`jax.jit` inside of the caller's
program), which saves a third of the time until XLA has the program.

A 3x3 convolution of pixels that are repeated sees at most 2x2 different ones, so it is done before they are, with
summed taps (`convolve_repeated`): 16 instead of 36 products a pixel for an enlargement by 2, 25 instead of 144 by 4.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.nn.gathering import gather
from vasa_jax.nn.initialisers import scaled_uniform

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and behind height, and width."""

_FEW = 32
"""Outputs below which a 2-D convolution on a CPU wastes most of its time packing inputs."""
_PACKED = 16
"""Inputs that fill a vector register; with more than eight times as many, a part-full one doubles the packing time."""


def convolve_2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c k"], stride: int = 1, padding: Padding | None = None
) -> Float[Array, "b height width k"]:
    """2-D convolution with the given stride and zeros around; half a kernel of them unless told.

    Its gradients take the form that suits the platform. Derivatives in forward mode are not offered (TypeError).
    """
    return jnp.asarray(_convolve_2d(x, kernel, padding or _half(kernel), stride))


def _convolve(x: Array, kernel: Array, padding: Any, stride: int = 1, spread: int = 1, kernel_spread: int = 1) -> Array:
    """spread, kernel_spread: distance of neighbouring pixels, and taps, that have zeros between them."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * 2,
        padding,
        lhs_dilation=(spread,) * 2,
        rhs_dilation=(kernel_spread,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_2d(x: Array, kernel: Array, padding: Padding, stride: int) -> Array:
    return _convolve(x, kernel, padding, stride)


def _forward(x: Array, kernel: Array, padding: Padding, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, padding, stride), (x, kernel)


def _backward(padding: Padding, stride: int, seen: tuple[Array, Array], change: Array) -> tuple[Array, Array]:
    direct, channels_last = (
        partial(form, padding=padding, stride=stride) for form in (_gradients, _gradients_channels_last)
    )
    return jax.lax.platform_dependent(*seen, change, cpu=channels_last, default=direct)


_convolve_2d.defvjp(_forward, _backward)


def _gradients(x: Array, kernel: Array, change: Array, padding: Padding, stride: int) -> tuple[Array, Array]:
    return jax.vjp(lambda x, kernel: _convolve(x, kernel, padding, stride), x, kernel)[1](change)


def _gradients_channels_last(
    x: Array, kernel: Array, change: Array, padding: Padding, stride: int
) -> tuple[Array, Array]:
    """The same, written as convolutions with channels last: of the change with the turned kernel, and of the input with
    the change, where batch and channels change places."""
    around_change, around_x = [], []
    for axis, (before, _) in enumerate(padding):
        taps, size, span = kernel.shape[axis], x.shape[axis + 1], stride * (change.shape[axis + 1] - 1) + 1
        around_change.append((taps - 1 - before, size + before - span))
        around_x.append((before, taps - 1 + span - size - before))
    of_x = _convolve(change, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), around_change, spread=stride)
    of_kernel = _convolve(x.transpose(3, 1, 2, 0), change.transpose(1, 2, 0, 3), around_x, kernel_spread=stride)
    return of_x, of_kernel.transpose(1, 2, 0, 3)


def convolve_3d_direct(
    x: Float[Array, "b d h w c"], kernel: Float[Array, "kd kh kw c k"], padding: Padding | None = None
) -> Float[Array, "b d height width k"]:
    """3-D convolution as one operation: stride 1, the depth kept, zeros around as in `convolve_2d`."""
    around = [(kernel.shape[0] // 2,) * 2, *(padding or _half(kernel))]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1, 1), around, dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))


def convolve_3d_depth_split(
    x: Float[Array, "b d h w c"], kernel: Float[Array, "kd kh kw c k"], padding: Padding | None = None
) -> Float[Array, "b d height width k"]:
    """The same function as `convolve_3d_direct`, as 2-D convolutions and sums that are shifted along depth.

    There is one 2-D convolution per depth tap, of the slices that this tap reads; where outputs are few, one of all
    slices, with the outputs of all taps side by side.
    """
    batch, depth, height, width, channels = x.shape
    taps, outputs, together = kernel.shape[0], kernel.shape[-1], kernel.shape[-1] < _FEW
    padding = padding or _half(kernel)

    def slices(x: Array, kernel: Array) -> Array:
        y = convolve_2d(x.reshape(-1, height, width, x.shape[-1]), kernel, padding=padding)
        return y.reshape(batch, -1, *y.shape[1:])

    if together:
        all_taps = slices(x, jnp.moveaxis(kernel, 0, -2).reshape(*kernel.shape[1:-1], taps * outputs))
    elif channels > 8 * _PACKED and channels % _PACKED:
        missing, kept = (0, -channels % _PACKED), (0, 0)
        x, kernel = jnp.pad(x, [*[kept] * 4, missing]), jnp.pad(kernel, [*[kept] * 3, missing, kept])
    total = None
    for tap in range(taps):
        ahead = tap - taps // 2  # the slice that the tap reads, counted from its output's
        read = slice(max(ahead, 0), max(depth + min(ahead, 0), 0))
        if read.start >= read.stop:
            continue
        if together:
            y = all_taps[:, read, ..., tap * outputs : (tap + 1) * outputs]
        else:
            y = slices(x[:, read], kernel[tap])
        y = jnp.pad(y, [(0, 0), (max(-ahead, 0), max(ahead, 0)), (0, 0), (0, 0), (0, 0)])
        total = y if total is None else total + y
    return jnp.asarray(total)


@partial(jax.jit, static_argnums=2)
def convolve_3d(
    x: Float[Array, "b d h w c"], kernel: Float[Array, "kd kh kw c k"], padding: Padding | None = None
) -> Float[Array, "b d height width k"]:
    """3-D convolution as in `convolve_3d_direct`, in the form that suits the platform."""
    split, direct = partial(convolve_3d_depth_split, padding=padding), partial(convolve_3d_direct, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=split, default=direct)


def _half(kernel: Float[Array, "*depth kh kw c k"]) -> Padding:
    """Half a kernel on every side, which keeps the size where its sides are odd."""
    height, width = (size // 2 for size in kernel.shape[-4:-2])
    return (height, height), (width, width)


@partial(jax.jit, static_argnums=2)
def convolve_repeated(
    x: Float[Array, "b *depth h w c"], kernel: Float[Array, "*taps c k"], factor: int
) -> Float[Array, "b *depth height width k"]:
    """The convolution of x with its pixels repeated `factor` times along height and width, computed at the size of x.

    Along an axis the first of `factor` phases sees the cell before and its own (taps 0 and 1 + 2), the last its own
    and the next (taps 0 + 1 and 2), and those between see their own alone (all taps). Taps are summed in the kernel's
    dtype, products taken in that of x.

    Args:
        x: pictures, or volumes, whose depth is kept.
        kernel: (3, 3, c, k) or (kd, 3, 3, c, k).
        factor: 1 or more.
    """
    convolve = convolve_2d if x.ndim == 4 else convolve_3d
    if factor == 1:
        return convolve(x, kernel.astype(x.dtype))
    phases = ("before", *("own",) * (factor - 2), "after")
    parts = {}
    for row in set(phases):
        for column in set(phases):
            taps = _summed(_summed(kernel, row, -4), column, -3).astype(x.dtype)
            parts[row, column] = convolve(x, taps, padding=(_REACH[row], _REACH[column]))
    rows = [jnp.stack([parts[row, column] for column in phases], -2) for row in phases]
    *lead, height, width, _ = x.shape
    return jnp.stack(rows, -4).reshape(*lead, height * factor, width * factor, -1)


_REACH = {"before": (1, 0), "own": (0, 0), "after": (0, 1)}
"""Cells of zeros before and behind an axis that a phase reaches for."""


def _summed(kernel: Array, phase: str, axis: int) -> Array:
    """The taps of one phase along an axis of three."""
    first, middle, last = (jax.lax.index_in_dim(kernel, tap, axis % kernel.ndim) for tap in range(3))
    if phase == "own":
        return first + middle + last
    pair = [first, middle + last] if phase == "before" else [first + middle, last]
    return jnp.concatenate(pair, axis)


@jax.jit
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
    repeated: int = 1  # times that pixels are repeated along height and width before; with 3x3 taps and stride 1 only
    use_bias: bool = True
    standardised: bool = True
    dtype: DTypeLike | None = None
    kernel_init: Callable = scaled_uniform(2.0)

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *resized k"]:
        """Convolve a batch; raises ValueError for a stride in 3-D or with repeated pixels."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features), jnp.float32)
        if self.standardised:
            kernel = standardise(kernel)
        x = x.astype(self.dtype or jnp.result_type(x, kernel))
        if self.stride > 1 and (len(self.kernel_size) == 3 or self.repeated > 1):
            raise ValueError(f"{self.stride=} is offered for 2-D convolutions, not repeated: resize before or after")
        if self.stride > 1:
            y = convolve_2d(x, gather(kernel.astype(x.dtype)), self.stride)
        else:
            kernel = kernel if self.repeated > 1 else kernel.astype(x.dtype)  # repeated pixels: taps are summed before
            y = convolve_repeated(x, gather(kernel), self.repeated)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(y.dtype)
            y = y + bias.reshape(*(1,) * (y.ndim - 1), -1)
        return y
