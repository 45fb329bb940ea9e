"""Machines that need not be here: their devices, to compile for, and what their data sheets promise, to estimate with.

A name is `KIND:SHAPE` of a TPU slice as libtpu knows it (v5e:2x4; v5p:4x4x4 are the 64 chips, 128 cores, that are sold
as v5p-128), `cuda:CHIP` or `cuda:CHIPxN` of N GPUs in one machine, or `cpu:N` for N devices on this CPU. Data sheets
say what cannot be exceeded: products in bfloat16 with float32 sums, without sparsity; the interconnect in one
direction, half of what a sheet calls bidirectional.
"""

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from vasa_jax.errors import UserError

GIB = 2**30
TARGETS = Path(__file__).parent / "targets"
"""Descriptions of GPUs for XLA (GpuTargetConfigProto as text)."""


class Chip(NamedTuple):
    """Limits of one chip, or of one device of it.

    flops: FLOP/s. memory: bytes. bandwidth: bytes/s of the memory. interconnect: bytes/s to other chips, one direction.
    source: where they are printed.
    """

    flops: float
    memory: int
    bandwidth: float
    interconnect: float
    source: str


CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1200e9, 300e9, "cloud.google.com/tpu/docs/v4; links: Jouppi et al. 2023"),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 200e9, "cloud.google.com/tpu/docs/v5e"),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 600e9, "cloud.google.com/tpu/docs/v5p"),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, 400e9, "cloud.google.com/tpu/docs/v6e"),
    "tpu7x": Chip(2307e12, 192 * GIB, 7380e9, 600e9, "cloud.google.com/tpu/docs/tpu7x"),
    "h100": Chip(989.4e12, 84942979072, 3352e9, 450e9, "NVIDIA H100 SXM data sheet; NVLink 4"),
    "rtx4090": Chip(165.2e12, 25393692672, 1008e9, 32e9, "NVIDIA Ada white paper; PCIe 4.0 x16"),
}
"""Kind of a TPU or GPU to its data sheet."""
PEAK_FLOPS = {
    "TPU v4": CHIPS["v4"].flops,
    "TPU v5 lite": CHIPS["v5e"].flops,
    "TPU v5e": CHIPS["v5e"].flops,
    "TPU v5": CHIPS["v5p"].flops,
    "TPU v5p": CHIPS["v5p"].flops,
    "TPU v6 lite": CHIPS["v6e"].flops,
    "NVIDIA H100 80GB HBM3": CHIPS["h100"].flops,
    "NVIDIA H200": CHIPS["h100"].flops,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA GeForce RTX 4090": CHIPS["rtx4090"].flops,
}
"""Peak of a device at hand, FLOP/s, by JAX's `device_kind`."""
GPUS = ("h100", "rtx4090")
EXAMPLES = "v5e:2x4, v5e:16x16, v5p:4x4x4, v6e:2x4, v4:2x2x1, tpu7x:2x2x1, cuda:h100, cuda:h100x8, cuda:rtx4090, cpu:8"


class Topology(NamedTuple):
    """A machine.

    name: as given. devices: of JAX; on v4 and tpu7x two are one chip. limits: of one device; None where nobody prints
    them (a CPU).
    """

    name: str
    devices: Sequence[Any]
    limits: Chip | None

    @property
    def platform(self) -> str:
        """ "cpu", "tpu" or "cuda"."""
        return self.name.partition(":")[0] if self.name.startswith(("cpu", "cuda")) else "tpu"

    @property
    def compiler_options(self) -> dict[str, Any]:
        """What its compiler must be told: tiles of products are chosen by timing them, which needs the GPU itself, so
        products are cuBLAS calls."""
        return {"xla_gpu_enable_triton_gemm": False} if self.platform == "cuda" else {}


def find_topology(name: str) -> Topology:
    """The machine of a name; call it before JAX has started, as the CPU's number of devices is fixed then.

    Raises:
        UserError: for an unknown name, a shape that libtpu refuses, or a compiler that is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind == "cpu" and re.fullmatch("[1-9][0-9]*", shape):
        return Topology(name, _cpus(name, int(shape)), None)
    if kind == "cuda" and (found := re.fullmatch(f"({'|'.join(GPUS)})(?:x([1-9][0-9]*))?", shape)):
        return Topology(name, _gpus(name, found[1], int(found[2] or 1)), CHIPS[found[1]])
    if kind in CHIPS and kind not in GPUS and re.fullmatch("[1-9][0-9]*(x[1-9][0-9]*)*", shape):
        devices = _tpus(name)
        chips = len({tuple(device.coords) for device in devices})
        chip, n = CHIPS[kind], len(devices) // chips
        limits = Chip(chip.flops / n, chip.memory // n, chip.bandwidth / n, chip.interconnect / n, chip.source)
        return Topology(name, devices, limits)
    raise UserError(f"topology {name!r} is unknown; choose one such as {EXAMPLES}")


def _cpus(name: str, count: int) -> Sequence[Any]:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has started; what it has may be enough
        pass
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise UserError(f"topology {name!r}: JAX has started with {len(devices)} devices; plan in a new process")
    return devices[:count]


def _gpus(name: str, chip: str, count: int) -> Sequence[Any]:
    _need(name, "jax_cuda12_plugin", "nvidia.cuda_nvcc")
    target = (TARGETS / f"{chip}.txtpb").read_text()
    found = topologies.get_topology_desc(
        platform="cuda", topology_name=chip, topology=f"1x1x{count}", target_config=target
    )
    return found.devices


def _tpus(name: str) -> Sequence[Any]:
    _need(name, "libtpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # or libtpu asks a cloud that is not there
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # only compiling: two plans may run side by side
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"topology {name!r} is refused: {str(error).splitlines()[0]}; choose as {EXAMPLES}") from error


def _need(name: str, *packages: str) -> None:
    """Refuse where a compiler is not installed."""
    for package in packages:
        try:
            present = importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:  # a parent of it
            present = False
        if not present:
            raise UserError(f"topology {name!r} needs {package}: pip install '.[plan]' in a checkout")
