"""What every benchmark needs: a description of the machine, times with their spread, and the peak of its matrix unit.

A share of the peak says more than a time: it compares a program with what this very machine does on its best problem, a
large square matrix product in the same precision, measured here and not read off a data sheet.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

DTYPES = ("float32", "bfloat16")


class Times(NamedTuple):
    """Seconds of a call: the first (compilation included), then median, 10th and 90th percentile of the others."""

    first: float
    median: float
    low: float
    high: float


def measure(call: Callable[[], Any], repeats: int) -> Times:
    """Time a call that returns arrays; waits for them, and leaves the first call out of the median."""
    return measure_in_turns([call], repeats)[0]


def measure_in_turns(calls: Sequence[Callable[[], Any]], repeats: int) -> list[Times]:
    """The times of several calls that take turns, so that a slow minute of the machine is shared; see `measure`."""
    seconds = np.empty((len(calls), repeats + 1))
    for turn in range(repeats + 1):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[index, turn] = time.perf_counter() - start
    low, median, high = np.quantile(seconds[:, 1:], [0.1, 0.5, 0.9], axis=1).tolist()
    return [Times(*row) for row in zip(seconds[:, 0].tolist(), median, low, high, strict=True)]


def matrix_peak(dtype: str, size: int, repeats: int = 5) -> float:
    """FLOP/s of the fastest of some products of two square matrices of side `size`, at JAX's default precision."""
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)


def torch_peak(dtype: str, size: int, repeats: int = 5) -> float | None:
    """The same with PyTorch, on its accelerator if it sees one; None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    torch: Any = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.ones((size, size), dtype=getattr(torch, dtype), device=device)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # fetching a number waits for the product
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)


def print_peaks(dtypes: Sequence[str], size: int) -> dict[str, float]:
    """Print the matrix peak per dtype, PyTorch's beside it, and return ours in FLOP/s."""
    peaks = {dtype: matrix_peak(dtype, size) for dtype in dtypes}
    for dtype, peak in peaks.items():
        rival = torch_peak(dtype, size)
        beside = "PyTorch is not installed" if rival is None else f"PyTorch {rival / 1e9:,.0f}"
        print(f"matrix peak, {dtype}, {size} x {size}: {peak / 1e9:,.0f} GFLOP/s ({beside})")
    return peaks


def machine() -> str:
    """Two lines: the processor and the device that JAX uses, and the versions that matter."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "flax")]
    return (
        f"{_processor()}, {cores} cores; device: {device.platform} {device.device_kind} x {jax.device_count()}\n"
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def add_platform_flag(parser: argparse.ArgumentParser) -> None:
    """The flag of every benchmark; `start` obeys it."""
    parser.add_argument("--platform", choices=("cpu", "gpu", "tpu"), help="device; the best one present by default")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that the timed benchmarks share; `choose_sizes` fills in their defaults."""
    add_platform_flag(parser)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="compute precisions")
    parser.add_argument("--repeats", type=positive, help="timed calls; 20, or 3 on a CPU")
    parser.add_argument("--matrix-size", type=positive, help="side of the matrix product; 8192, or 2048 on a CPU")


def start(flags: argparse.Namespace) -> None:
    """Choose the platform and print the machine."""
    if flags.platform:
        jax.config.update("jax_platforms", flags.platform)
    print(machine())


def choose_sizes(flags: argparse.Namespace) -> None:
    """Fill in the repeats and the matrix size that suit the device, where they were not given."""
    on_cpu = jax.devices()[0].platform == "cpu"
    flags.repeats = flags.repeats or (3 if on_cpu else 20)
    flags.matrix_size = flags.matrix_size or (2048 if on_cpu else 8192)


def positive(text: str) -> int:
    """A whole number, 1 or more: the type of a flag."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _processor() -> str:
    """Name of the CPU as the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
