"""How fast is motion made? A paper-size window of 50 frames (2 s) by 50 and 10 DDIM steps, with random weights.

    python -m benchmarks.sampler [--platform cpu|gpu|tpu] [--steps 50 10] [--dtypes float32 bfloat16]

Each step runs the 28.68M motion transformer on three guidance branches in one batch (VASA-1 section 3.2: everything,
without audio, without gaze); the steps are one `lax.scan`. Prints ms per window (median, and 10th to 90th percentile of
the repeats), frames/s, and the share of the matrix peak measured on the same machine.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks import timing
from vasa_jax.motion.conditions import Conditions, empty
from vasa_jax.motion.config import MotionConfig, demo_model
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.sampling import GUIDANCE, sample_window
from vasa_jax.nn.cost import count_macs

MODELS = {"paper": MotionConfig, "demo": demo_model}


def everything_known(config: MotionConfig, batch: int) -> Conditions:
    """Conditions of random numbers, none of them null."""
    nothing = empty(config, batch)
    keys = jax.random.split(jax.random.key(0), len(nothing))
    known = (
        jnp.ones_like(value) if value.dtype == bool else jax.random.normal(key, value.shape)
        for key, value in zip(keys, nothing, strict=True)
    )
    return Conditions(*known)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_flags(parser)
    parser.add_argument("--model", choices=tuple(MODELS), default="paper", help="sizes of the network")
    parser.add_argument("--steps", nargs="+", type=timing.positive, default=[50, 10], help="DDIM steps")
    parser.add_argument("--batch", type=timing.positive, default=1, help="windows at once")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    timing.choose_sizes(flags)
    base = MODELS[flags.model]()
    branches = 1 + sum(1 for scale in GUIDANCE.values() if scale)
    print(f"{flags.model}-size sampler: {flags.batch} x {base.window} frames, {branches} branches a step")
    peaks = timing.print_peaks(flags.dtypes, flags.matrix_size)
    print(
        f"\n{'dtype':<9} {'steps':>5} {'ms/window':>10} {'10..90 %':>19} {'frames/s':>9} "
        f"{'of peak':>8} {'compile s':>9}"
    )
    for dtype in flags.dtypes:
        config = dataclasses.replace(base, dtype=dtype)
        params = initialise(config, jax.random.key(1))
        conditions = everything_known(config, flags.batch)
        for steps in flags.steps:
            draw = partial(sample_window, config, steps=steps)
            flop = 2.0 * count_macs(draw, params, jax.random.key(2), conditions)
            call = partial(jax.jit(draw), params, jax.random.key(2), conditions)
            times = timing.measure(call, flags.repeats)
            window, low, high = (1e3 * seconds for seconds in (times.median, times.low, times.high))
            rate = flags.batch * base.window / times.median
            print(
                f"{dtype:<9} {steps:>5} {window:>10.1f} {f'{low:.1f}..{high:.1f}':>19} {rate:>9.1f} "
                f"{flop / times.median / peaks[dtype]:>8.0%} {times.first - times.median:>9.1f}"
            )


if __name__ == "__main__":
    main()
