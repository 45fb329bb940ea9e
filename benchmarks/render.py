"""How fast are pictures made? The paper-size driven warp and decoder G2D at 512x512, with random weights.

    python -m benchmarks.render [--platform cpu|gpu|tpu] [--batches 1 2 4 8] [--dtypes float32 bfloat16]

A portrait is encoded once, a frame costs the driven warp, one 3-D grid sample and G2D: 0.62 TFLOP (VASA-1 section 4.4
reports 45 frames/s at this size on an RTX 4090). Random weights cost what trained ones cost. Prints ms per frame
(median, and 10th to 90th percentile of the repeats), frames/s, and the share of the matrix peak measured on the same
machine.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial

import jax

from benchmarks import timing
from vasa_jax.arrays import POSE_DIM, Motion, Portrait
from vasa_jax.autoencoder.config import AutoencoderConfig, demo_model, paper_model
from vasa_jax.autoencoder.cost import count_macs
from vasa_jax.autoencoder.model import Autoencoder

MODELS = {"paper": paper_model, "demo": demo_model}


def inputs(config: AutoencoderConfig, batch: int) -> tuple[Portrait, Motion]:
    """One portrait and `batch` motions of random numbers."""
    keys = jax.random.split(jax.random.key(0), 4)
    dtype = config.compute_dtype
    portrait = Portrait(
        jax.random.normal(keys[0], (1, *config.volume_shape), dtype),
        jax.random.normal(keys[1], (1, 4, 4, config.identity_channels), dtype),
    )
    pose = 0.1 * jax.random.normal(keys[2], (batch, POSE_DIM))
    return portrait, Motion(pose, jax.random.normal(keys[3], (batch, config.dynamics_dim)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_flags(parser)
    parser.add_argument("--model", choices=tuple(MODELS), default="paper", help="sizes of the network")
    parser.add_argument("--batches", nargs="+", type=timing.positive, default=[1, 2, 4, 8], help="frames a call")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    timing.choose_sizes(flags)
    base = MODELS[flags.model]()
    flop = 2.0 * count_macs(base)["frame"]
    print(f"{flags.model}-size render at {base.image_size}x{base.image_size}: {flop / 1e9:,.1f} GFLOP a frame")
    peaks = timing.print_peaks(flags.dtypes, flags.matrix_size)
    print(
        f"\n{'dtype':<9} {'batch':>5} {'ms/frame':>9} {'10..90 %':>19} {'frames/s':>9} {'of peak':>8} {'compile s':>9}"
    )
    for dtype in flags.dtypes:
        config = dataclasses.replace(base, dtype=dtype)
        model = Autoencoder(config)
        params = jax.jit(partial(model.init, method="render"))(jax.random.key(1), *inputs(config, 1))
        render = jax.jit(partial(model.apply, method="render"))
        for batch in flags.batches:
            portrait, motion = jax.block_until_ready(inputs(config, batch))
            times = timing.measure(partial(render, params, portrait, motion), flags.repeats)
            frame, low, high = (1e3 * seconds / batch for seconds in (times.median, times.low, times.high))
            share = flop / (frame / 1e3) / peaks[dtype]
            print(
                f"{dtype:<9} {batch:>5} {frame:>9.2f} {f'{low:.2f}..{high:.2f}':>19} {1e3 / frame:>9.2f} {share:>8.0%} "
                f"{times.first - times.median:>9.1f}"
            )


if __name__ == "__main__":
    main()
