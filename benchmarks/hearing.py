"""What does a frozen speech network cost stage 2? The paper's size, with random weights.

    python -m benchmarks.hearing [--platform cpu|gpu|tpu] [--batch 64] [--seconds 60] [--repeats 5] [--blocks 5 1]

First the features of a clip as `training.encode` writes them, in seconds of computing for a minute of sound, by the
frames of a block; then a training step of `configs/motion_base.py` on features that the clips carry and on features
that are heard anew in the step. Both run in float32 as the front end does, the step as `--dtype` says.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.stepping import random_step
from vasa_jax import config as configs
from vasa_jax.arrays import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.audio.front_end import AudioEncoderConfig, front_end, slice_samples
from vasa_jax.audio.weights import speech_shapes
from vasa_jax.nn.cost import count_macs
from vasa_jax.training.config import MotionExperiment
from vasa_jax.training.hearing import PIECE, clip_features


def random_weights(config: AudioEncoderConfig) -> Any:
    """Parameters of a speech network that keep the variance of what goes through."""
    random = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "bias"):
            return np.full(leaf.shape, path[-1].key == "scale", np.float32)
        fan_in = max(1, int(np.prod(leaf.shape[-3:-1])))
        return (random.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, speech_shapes(config.speech))


def encode_row(config: AudioEncoderConfig, weights: Any, seconds: float, repeats: int) -> str:
    """Seconds of computing for a minute of sound, and multiply-adds."""
    front = front_end(config)
    piece = front.block * max(1, PIECE // front.block)
    sound = jax.ShapeDtypeStruct((1, slice_samples(front, piece)), jnp.float32)
    macs = count_macs(lambda w, x: front.hear(w, front.start(1), x)[1], weights, sound) * 1500 / piece
    noise = 0.1 * np.random.default_rng(1).normal(size=int(seconds * SAMPLE_RATE))
    features = clip_features(config, weights)
    times = timing.measure(partial(features, noise, len(noise) // SAMPLES_PER_FRAME), repeats)
    return f"{config.block:>6} {macs / 1e12:>12.2f} {times.median / seconds * 60:>12.1f}"


def step_row(experiment: MotionExperiment, features: str, weights: Any, repeats: int) -> str:
    """Milliseconds of a training step."""
    changed: dict[str, Any] = {"features": features}
    experiment = dataclasses.replace(experiment, **changed)
    cost, step = random_step(experiment, weights if features == "live" else {})
    times = timing.measure(step, repeats)
    rate = experiment.batch_size / times.median
    return f"{features:<9} {cost:>8.3g} {1e3 * times.median:>10.1f} {rate:>10.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--config", default="motion_base", help="of stage 2, whose network hears features")
    parser.add_argument("--batch", type=timing.positive, default=64, help="samples a step")
    parser.add_argument("--seconds", type=float, default=60.0, help="of sound that is encoded")
    parser.add_argument("--repeats", type=timing.positive, default=5, help="timed calls")
    parser.add_argument("--blocks", nargs="+", type=timing.positive, default=[5, 1], help="frames of a block")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the step")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    experiment = dataclasses.replace(configs.load(flags.config), batch_size=flags.batch, dtype=flags.dtype)
    audio = experiment.model.audio
    weights = random_weights(audio)
    print(f"\nencoding, a minute of sound\n{'block':>6} {'TMAC':>12} {'seconds':>12}")
    for block in flags.blocks:
        print(encode_row(dataclasses.replace(audio, block=block), weights, flags.seconds, flags.repeats), flush=True)
    print(f"\na step of {flags.batch} samples\n{'features':<9} {'TFLOP':>8} {'ms':>10} {'samples/s':>10}")
    for features in ("recorded", "live"):
        print(step_row(experiment, features, weights, flags.repeats), flush=True)


if __name__ == "__main__":
    main()
