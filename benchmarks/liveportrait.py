"""What does a frame of LivePortrait cost, and what do the exact savings save? Random weights of the released sizes.

    python -m benchmarks.liveportrait [--platform cpu|gpu|tpu] [--networks warp generator] [--repeats 5]

Prints, for each network, FLOPs (two a multiply-add) of the network as it is described and of our program, then ms of
both (median, and 10th to 90th percentile), and where torch is installed those of a plain torch rewrite on the same
kind of device, and our time over torch's. The programs take turns, so that what else the machine does slows them
alike. The savings keep every output:

* generator, warp: 3x3 convolutions of enlarged features are done at their own size;
* generator: both modulations of a norm in one convolution, and the shortcut shares its norm;
* warp: what the source alone decides (compressed volume, its still copy, its heat maps) is prepared once;
* sampler: JoyVASA's cross-attention, linear, is computed once a window instead of in each of the 50 steps.
"""

import argparse
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from vasa_jax import joyvasa
from vasa_jax.convert import build, to_torch
from vasa_jax.joyvasa.motion_generator import RELEASED
from vasa_jax.liveportrait import generator
from vasa_jax.nn import convolution
from vasa_jax.nn.cost import count_macs
from vasa_jax.nn.resize import repeat

WIDTHS = (28, 28, 28, 12)
NETWORKS = ("appearance", "motion", "warp", "generator", "sampler")
IMAGE, VOLUME, POINTS, FEATURES = (1, 256, 256, 3), (1, 16, 64, 64, 32), (1, 21, 3), (1, 64, 64, 256)


def random_variables(name: str, inputs: Sequence[Any]) -> Any:
    """Variables of a network, small and positive where they must be."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(build(name).init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda leaf: jnp.asarray(random.uniform(0.001, 0.01, leaf.shape), leaf.dtype), shapes)


def numbers(shape: Sequence[int]) -> jax.Array:
    """Numbers within -0.5..0.5."""
    return jnp.asarray(np.random.default_rng(1).uniform(-0.5, 0.5, shape).astype(np.float32))


def enlarged(x: jax.Array, kernel: jax.Array, factor: int) -> jax.Array:
    """The convolution that `convolve_repeated` saves."""
    if x.ndim == 4:
        return convolution.convolve_2d(repeat(x, (factor, factor)), kernel)
    return convolution.convolve_3d(repeat(x, (1, factor, factor)), kernel)


def report(
    row: str,
    before: tuple[Callable, Any] | None,
    after: tuple[Callable, Any],
    repeats: int,
    rival: Callable[[], Any] | None = None,
) -> None:
    """Count and time a program, what it replaced and torch's, in turns, and print the row."""
    programs = [program for program in (before, after) if program is not None]
    calls = [partial(jax.jit(call), *arguments) for call, arguments in programs]
    times = timing.measure_in_turns([*calls, *([rival] if rival else [])], repeats)
    flops = [f"{2.0 * count_macs(call, *arguments) / 1e9:,.1f}" for call, arguments in programs]
    shown = [f"{1e3 * each.median:,.1f} ({1e3 * each.low:,.1f}..{1e3 * each.high:,.1f})" for each in times]
    if before is None:
        flops, shown = ["", *flops], ["", *shown]
    if rival:
        shown.append(f"{times[-2].median / times[-1].median:.2f}")
    cells = [f"{cell:>9}" for cell in flops] + [f"{cell:>{width}}" for cell, width in zip(shown, WIDTHS, strict=False)]
    print(f"{row:<12} {' '.join(cells)}".rstrip())


def torch_call(function: str, name: str, variables: Any, inputs: Sequence[Any]) -> Callable[[], Any] | None:
    """One call of the plain torch rewrite that the parity tests use; None where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    torch: Any = importlib.import_module("torch")
    oracle: Any = importlib.import_module("tests.parity.against_torch.liveportrait")
    device = "cuda" if torch.cuda.is_available() and jax.devices()[0].platform == "gpu" else "cpu"
    weights = {key: torch.tensor(value).to(device) for key, value in to_torch(name, variables).items()}
    arrays = [np.moveaxis(np.asarray(x), -1, 1) if x.ndim > 3 else np.asarray(x) for x in inputs]
    given = [torch.tensor(np.ascontiguousarray(x)).to(device) for x in arrays]

    def call() -> float:
        with torch.inference_mode():
            result = getattr(oracle, function)(weights, *given)
            first = next(iter(result.values())) if isinstance(result, dict) else result
            return float(first.flatten()[0])  # fetching a number waits for the device

    return call


def compare(network: str, repeats: int) -> None:
    """The row of one network."""
    if network == "sampler":
        compare_sampler(repeats)
        return
    name = {
        "appearance": "liveportrait.appearance_feature_extractor",
        "motion": "liveportrait.motion_extractor",
        "warp": "liveportrait.warping_module",
        "generator": "liveportrait.spade_generator",
    }[network]
    shapes = {"appearance": [IMAGE], "motion": [IMAGE], "warp": [VOLUME, POINTS, POINTS], "generator": [FEATURES]}
    inputs = [numbers(shape) for shape in shapes[network]]
    variables, module = random_variables(name, inputs), build(name)
    rival = torch_call({"warp": "warping"}.get(network, network), name, variables, inputs)

    def described(*arguments: Any) -> Any:
        with (
            mock.patch.object(generator, "convolve_repeated", enlarged),
            mock.patch.object(convolution, "convolve_repeated", enlarged),
        ):
            return module.apply(*arguments)

    before, after = (described, (variables, *inputs)), (module.apply, (variables, *inputs))
    if network == "warp":
        volume, driving, source = inputs
        prepared = module.apply(variables, volume, source, method="prepare")
        after = (partial(module.apply, method="warp"), (variables, prepared, driving))
    report(network, before if network in ("warp", "generator") else None, after, repeats, rival)


def compare_sampler(repeats: int) -> None:
    """JoyVASA's 50 guided steps of a window of 100 frames, with the cross-attention inside and outside the loop."""
    config = RELEASED
    noise = numbers((1, config.window, config.motion))
    audio = numbers((1, config.window, config.width))
    variables = random_variables("joyvasa.motion_generator", [numbers((1, 64_000)), noise])
    network = build("joyvasa.motion_generator")
    steps = numbers((config.steps, *noise.shape))
    previous = numbers((2, config.previous, config.width))
    repeated = partial(network.apply, method="cross_attention")
    crossing = (variables, jnp.concatenate([audio, audio]), previous)
    once = 2.0 * count_macs(repeated, *crossing) / 1e9
    print(f"sampler's cross-attention: {once:.2f} GFLOP once a window, {config.steps * once:.1f} if in every step")
    draw = partial(joyvasa.sample, config=config)
    report("sampler", None, (draw, (variables, audio, noise, steps)), repeats)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="rows of the table")
    parser.add_argument("--repeats", type=timing.positive, help="timed calls; 20, or 3 on a CPU")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    repeats = flags.repeats or (3 if jax.devices()[0].platform == "cpu" else 20)
    heads = [
        f"{head:>{width}}"
        for head, width in zip(("as described", "as done", "torch", "done / torch"), WIDTHS, strict=True)
    ]
    print(f"\n{'':<12} {'GFLOP':>9} {'GFLOP':>9} ms, median (10..90 %)")
    print(f"{'network':<12} {'described':>9} {'done':>9} {' '.join(heads)}")
    for network in flags.networks:
        compare(network, repeats)


if __name__ == "__main__":
    main()
