"""What does a gradient of a 2-D convolution cost inside of `lax.cond`? Ours beside the one that JAX derives.

    python -m benchmarks.gradients [--platform cpu|gpu|tpu] [--repeats 5]

XLA's CPU back end brings convolutions into its fast form in a program's main computation alone; training runs many of
them in branches and loops (`nn.convolution`). Every row is a 3x3 convolution of stage 1's demo networks, forward and
both gradients: in the main computation and in a branch that is always taken. Times are medians.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from benchmarks import timing
from vasa_jax.nn.convolution import convolve_2d

SIZES = ((8, 32, 48, 48, 1), (8, 64, 32, 32, 1), (8, 128, 16, 16, 1), (32, 16, 48, 48, 1), (8, 64, 32, 32, 2))
"""Pictures, side, inputs, outputs, stride."""


def derived(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution as JAX derives its gradients."""
    half = [(side // 2, side // 2) for side in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, half, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def gradients(convolve: Callable[..., Array], stride: int, branch: bool) -> Callable[..., Any]:
    """Both gradients of a function of a convolution, compiled: of (True, x, kernel)."""
    both = jax.grad(lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, stride))), (0, 1))
    if branch:
        return jax.jit(lambda taken, *given: jax.lax.cond(taken, both, lambda *same: same, *given))
    return jax.jit(lambda taken, *given: both(*given))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--repeats", type=timing.positive, default=5, help="timed calls")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    columns = ("derived, ms", "in a branch", "ours, ms", "in a branch")
    print(f"\n{'pictures':<22} {'stride':>6} " + " ".join(f"{column:>12}" for column in columns))
    random = np.random.default_rng(0)
    for count, side, inputs, outputs, stride in SIZES:
        x = jnp.asarray(random.standard_normal((count, side, side, inputs), np.float32))
        kernel = jnp.asarray(random.standard_normal((3, 3, inputs, outputs), np.float32))
        calls = [
            partial(gradients(convolve, stride, branch), True, x, kernel)
            for convolve in (derived, convolve_2d)
            for branch in (False, True)
        ]
        told = [1e3 * times.median for times in timing.measure_in_turns(calls, flags.repeats)]
        name = f"{count} x {side}x{side}x{inputs}, {outputs}"
        print(f"{name:<22} {stride:>6} " + " ".join(f"{time:>12.1f}" for time in told), flush=True)


if __name__ == "__main__":
    main()
