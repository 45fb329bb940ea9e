"""What a run will need, before it is paid for: its own step, compiled for a machine that need not be here.

    python -m vasa_jax.training.plan autoencoder_512 --topology v5e:2x4 [--fsdp 8] [--remat] [--accumulate 2]
    python -m vasa_jax.training.plan autoencoder_512 motion_base --topology cuda:rtx4090 --render
    python -m vasa_jax.training.plan --model joyvasa --topology cuda:rtx4090 --render

Four kinds of numbers stand apart. *Compiled*: memory, traffic and collectives of the program that the machine would
run. *Counted*: multiply-adds of the traced program. *Estimated*: seconds by roofline (Williams et al. 2009),

    t = max(FLOPs / peak, memory traffic / bandwidth, bytes sent / interconnect)                                  (1)

a machine whose slowest part never waits; what a cache serves counts as memory traffic. *Fitted*: the largest batch,
from a straight line through the memory of two batches, 1 and 2 a device. Nothing here is a measurement, but for the
seconds that compiling took.
"""

import argparse
import dataclasses
import importlib.metadata
import math
import re
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vasa_jax import config as configs
from vasa_jax.arrays import POSE_DIM, SAMPLES_PER_FRAME, Motion, Portrait
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.command import Parser, run
from vasa_jax.errors import UserError
from vasa_jax.inference.public import BATCH
from vasa_jax.inference.vasa import FaceModel
from vasa_jax.joyvasa import sample
from vasa_jax.joyvasa.motion_generator import RELEASED, MotionGenerator, MotionGeneratorConfig
from vasa_jax.liveportrait.generator import SpadeGenerator
from vasa_jax.liveportrait.rendering import render
from vasa_jax.liveportrait.warping import WarpingModule
from vasa_jax.motion.conditions import empty
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.sampling import GUIDANCE, sample_window
from vasa_jax.nn.cost import count_jaxpr
from vasa_jax.training import sharding
from vasa_jax.training.config import AutoencoderExperiment, Experiment, MotionExperiment
from vasa_jax.training.hlo import Module
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.tasks import make_task
from vasa_jax.training.topology import GIB, Chip, Topology, find_topology

SAMPLER_STEPS = 50
"""Steps of the planned sampler, VASA-1's default."""


class Cost(NamedTuple):
    """What one call of a program costs each device.

    flops: 2 x multiply-adds, or the compiler's own count where it is higher (it counts loops once, but also the rest).
    memory: bytes at the peak: arguments, outputs that share nothing with them, and temporaries.
    arguments: bytes of the arguments alone. traffic: bytes read from and written to the device's memory.
    sent: bytes sent to other devices, by kind of collective. seconds: what tracing and compiling took here.

    Where the compiler refused the program for its memory, `memory` is what it asked for, and `arguments`, `traffic`
    and `sent` are None.
    """

    flops: float
    memory: int
    arguments: int | None
    traffic: int | None
    sent: dict[str, int] | None
    seconds: float


def cost(jitted: Any, arguments: Sequence[Any], devices: int, topology: Topology) -> Cost:
    """Compile a jitted function for the devices of its shardings.

    Args:
        jitted: as from `jax.jit`.
        arguments: shapes, `jax.ShapeDtypeStruct`s.
        devices: over how many of the topology's the work is spread.
        topology: whose compiler options hold.
    """
    start = time.perf_counter()
    traced = jitted.trace(*arguments)
    flops = 2.0 * count_jaxpr(traced.jaxpr.jaxpr) / devices
    try:
        compiled = traced.lower().compile(topology.compiler_options)
    except jax.errors.JaxRuntimeError as error:
        memory = asked_memory(str(error))
        if memory is None:
            raise
        return Cost(flops, memory, None, None, None, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    own = (compiled.cost_analysis() or {}).get("flops", 0.0)
    sizes = compiled.memory_analysis()
    kept = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    module = Module(compiled.as_text())
    return Cost(
        max(flops, own),
        sizes.argument_size_in_bytes + kept + sizes.temp_size_in_bytes,
        sizes.argument_size_in_bytes,
        module.memory_traffic(),
        module.bytes_sent(),
        seconds,
    )


def asked_memory(message: str) -> int | None:
    """Bytes that a compiler asked for when it refused: "Used 20.5G of 15.75G hbm" is 20.5 x 2^30; None for others."""
    found = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message)
    return round(float(found[1]) * 2 ** (10 * " KMGT".index(found[2] or " "))) if found else None


def roofline(spent: Cost, limits: Chip) -> dict[str, float]:
    """Seconds that each resource alone needs, by equation (1): "FLOPs", and "memory" and "interconnect" where known."""
    seconds = {"FLOPs": spent.flops / limits.flops}
    if spent.traffic is not None and spent.sent is not None:
        seconds["memory"] = spent.traffic / limits.bandwidth
        seconds["interconnect"] = sum(spent.sent.values()) / limits.interconnect
    return seconds


def step_seconds(spent: Cost, limits: Chip) -> float | None:
    """Seconds of equation (1); None for a program that its compiler refused."""
    return None if spent.sent is None else max(roofline(spent, limits).values())


def largest_batch(batches: Sequence[int], memory: Sequence[int], capacity: int) -> int | None:
    """The largest batch that fits `capacity` bytes, 0 for none, on the line through the first two batches and the bytes
    that they need; None where the bytes do not grow."""
    slope = (memory[1] - memory[0]) / (batches[1] - batches[0])
    return max(0, math.floor(batches[0] + (capacity - memory[0]) / slope)) if slope > 0 else None


def planned_dtype(dtype: str, topology: Topology) -> str:
    """What "auto" means on the planned machine, whatever this one is; others as they are."""
    if dtype != "auto":
        return dtype
    return "float32" if topology.platform == "cpu" else "bfloat16"


def computing(experiment: Experiment, topology: Topology) -> Experiment:
    """The experiment with the dtype that it has on the planned machine."""
    return dataclasses.replace(experiment, dtype=planned_dtype(experiment.dtype, topology))


def train_cost(experiment: Experiment, topology: Topology, batch: int) -> tuple[Cost, int]:
    """The cost of a train step of `batch` samples a device and micro-batch, and the bytes of state that each device
    holds.

    Raises:
        UserError: for what `make_strategy` or `make_task` refuse.
    """
    devices = len(topology.devices)
    size = batch * devices * experiment.accumulate
    experiment = dataclasses.replace(computing(experiment, topology), batch_size=size)
    strategy = make_strategy(experiment.parallel, size, experiment.fsdp, experiment.accumulate, topology.devices)
    task = make_task(experiment)
    program = make_program(experiment, task, strategy)
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    placed = strategy.target(program.shapes)
    state = sharding.bytes_per_device(program.shapes, jax.tree.map(lambda leaf: leaf.sharding, placed))
    arguments = program.shapes, task.batch_spec(size), key, task.helper_shapes()
    return cost(program.step, arguments, devices, topology), state


class Call(NamedTuple):
    """One call of a program of inference: what it is called, the frames that it makes, and its cost."""

    name: str
    frames: int
    cost: Cost


def on_first(topology: Topology) -> NamedSharding:
    """The topology's first device alone."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=topology.devices[:1])
    return NamedSharding(mesh, PartitionSpec())


def inference_cost(experiment: Experiment, topology: Topology) -> Call:
    """What inference runs of a stage, on one device.

    Stage 1 renders `FaceModel.batch` frames of one portrait; stage 2 draws a window in `SAMPLER_STEPS` steps, the
    branches of guidance as one batch. Sizes are those of the benchmarks `render` and `sampler`.

    Raises:
        UserError: for an experiment of no known stage.
    """
    here, dtype = on_first(topology), computing(experiment, topology).dtype
    key = jax.eval_shape(lambda: jax.random.key(0))
    array = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    if isinstance(experiment, AutoencoderExperiment):
        config = dataclasses.replace(experiment.model, dtype=dtype)
        model = Autoencoder(config)
        feature = partial(jax.ShapeDtypeStruct, dtype=config.dtype)
        portrait = Portrait(feature((1, *config.volume_shape)), feature((1, 4, 4, config.identity_channels)))
        motion = Motion(array((FaceModel.batch, POSE_DIM)), array((FaceModel.batch, config.dynamics_dim)))
        params = jax.eval_shape(partial(model.init, method="render"), key, portrait, motion)
        jitted = jax.jit(partial(model.apply, method="render"), in_shardings=here, out_shardings=here)
        spent = cost(jitted, (params, portrait, motion), 1, topology)
        return Call(f"render, {FaceModel.batch} frames", FaceModel.batch, spent)
    if isinstance(experiment, MotionExperiment):
        config = dataclasses.replace(experiment.model, dtype=dtype)
        params = jax.eval_shape(partial(initialise, config), key)
        conditions = jax.eval_shape(lambda: empty(config, 1))
        draw = partial(sample_window, config, steps=SAMPLER_STEPS)
        jitted = jax.jit(draw, in_shardings=here, out_shardings=here)
        branches = 1 + sum(scale != 0.0 for scale in GUIDANCE.values())
        name = f"sampler, {config.window} frames, {SAMPLER_STEPS} steps, {branches} branches"
        return Call(name, config.window, cost(jitted, (params, key, conditions), 1, topology))
    raise UserError(f"{type(experiment).__name__} is no experiment of stage 1 or 2")


def public_costs(topology: Topology, dtype: str, config: MotionGeneratorConfig = RELEASED) -> list[Call]:
    """What inference runs of LivePortrait and JoyVASA, on one device.

    W and G render `BATCH` frames of one portrait in `dtype`, the source's part of W done before; JoyVASA hears
    and draws a window, both branches of guidance as one batch, in float32. No weights are needed.

    Args:
        topology: whose first device is taken.
        dtype: "float32" or "bfloat16".
        config: JoyVASA's sizes.
    """
    here, key = on_first(topology), jax.eval_shape(lambda: jax.random.key(0))
    array = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    w, g, generator = WarpingModule(jnp.dtype(dtype)), SpadeGenerator(jnp.dtype(dtype)), MotionGenerator(config)
    volume, points = array((1, 16, 64, 64, 32)), array((1, 21, 3))
    warping = jax.eval_shape(w.init, key, volume, points, points)
    source = jax.eval_shape(partial(w.apply, method="prepare"), warping, volume, points)
    arguments = (
        warping,
        jax.eval_shape(g.init, key, array((1, 64, 64, 256))),
        source,
        array((BATCH, *points.shape[1:])),
    )
    jitted = jax.jit(partial(render, dtype=jnp.dtype(dtype)), in_shardings=here, out_shardings=here)
    frames = Call(f"W and G, {dtype}, {BATCH} frames", BATCH, cost(jitted, arguments, 1, topology))

    def draw(variables: Any, sound: Any, start: Any, steps: Any) -> Any:
        heard = jnp.asarray(generator.apply(variables, sound, method="audio_features"))
        return sample(variables, heard, start, steps, config=config)

    sound, start = array((1, config.window * SAMPLES_PER_FRAME)), array((1, config.window, config.motion))
    arguments = jax.eval_shape(generator.init, key, sound, start), sound, start, array((config.steps, *start.shape))
    jitted = jax.jit(draw, in_shardings=here, out_shardings=here)
    name = f"audio encoder and sampler, float32, {config.steps} steps, 2 branches, {config.window} frames"
    return [frames, Call(name, config.window, cost(jitted, arguments, 1, topology))]


def heading(name: str, dtype: str, topology: Topology) -> str:
    """Two lines: the config, the machine, how the step is spread; the limits that estimates use and the versions."""
    devices = topology.devices
    versions = [f"{part} {importlib.metadata.version(part)}" for part in ("jax", "jaxlib", *_compiler(topology))]
    limits = topology.limits
    sheet = (
        "no data sheet, so no estimates"
        if limits is None
        else f"data sheet, a device: {limits.flops / 1e12:.0f} TFLOP/s, {limits.memory / GIB:.1f} GiB at "
        f"{limits.bandwidth / 1e9:.0f} GB/s, {limits.interconnect / 1e9:.0f} GB/s to others ({limits.source})"
    )
    return (
        f"{name} for {topology.name}: {len(devices)} x {devices[0].device_kind}, "
        f"{dtype}; {', '.join(versions)}\n{sheet}"
    )


def train_table(experiment: Experiment, topology: Topology, batches: Sequence[int]) -> str:
    """The plan of training: a table of batches a device, and the fitted largest batch where there are two."""
    rows = [train_cost(experiment, topology, batch) for batch in batches]
    costs, state, devices = [spent for spent, _ in rows], rows[0][1], len(topology.devices)
    parts = (experiment.fsdp or devices) if experiment.parallel == "sharded" else 1
    spread = f"{experiment.parallel}: data {devices // parts} x fsdp {parts}"
    lines = [
        f"train step, {spread}, accumulate {experiment.accumulate}, remat {'on' if experiment.remat else 'off'}; "
        f"compiled in {' and '.join(f'{spent.seconds:.0f}' for spent in costs)} s here",
        _row("a device", *(f"batch {batch}" for batch in batches), *(f"estimate {batch}" for batch in batches)),
        _row("memory, GiB", *(_memory(spent, topology) for spent in costs)),
        _row("  state alone, GiB", *[f"{state / GIB:.4g}"] * len(batches)),
        *_resources(costs, topology.limits),
    ]
    if topology.limits is not None:
        empty_cells = [""] * len(batches)
        steps = [step_seconds(spent, topology.limits) for spent in costs]
        rates = [
            None if step is None else batch * devices * experiment.accumulate / step
            for batch, step in zip(batches, steps, strict=True)
        ]
        shown = ("-" if step is None else _ms(step) for step in steps)
        lines.append(_row("step by roofline", *empty_cells, *shown))
        shown = ("-" if rate is None else f"{rate:.1f}" for rate in rates)
        lines.append(_row("samples/s by roofline", *empty_cells, *shown))
    if topology.limits is not None and len(batches) == 2:
        most = largest_batch(batches, [spent.memory for spent in costs], topology.limits.memory)
        found = "memory does not grow with the batch" if most is None else f"{most} a device"
        lines.append(
            f"fitted (a line through batches {batches[0]} and {batches[1]}): the largest batch that fits is {found}"
        )
    if topology.platform == "cuda":
        lines.append("memory is a lower bound: no autotuning and no cuDNN workspace in a compiler without a GPU")
    return "\n".join(lines)


def inference_table(call: Call, topology: Topology) -> tuple[str, float | None]:
    """The plan of a call of inference on one device, and the estimated seconds a frame, None without a data sheet."""
    spent = call.cost
    lines = [
        f"{call.name} a call, one device; compiled in {spent.seconds:.0f} s here",
        _row("a call", "compiled", "estimate"),
        _row("memory, GiB", _memory(spent, topology)),
    ]
    lines += _resources([spent], topology.limits)
    seconds = None if topology.limits is None else step_seconds(spent, topology.limits)
    if seconds is None:
        return "\n".join(lines), None
    frame = seconds / call.frames
    lines.append(_row("a frame by roofline", "", _ms(frame)))
    lines.append(_row("frames/s by roofline", "", f"{1 / frame:.1f}"))
    return "\n".join(lines), frame


def _resources(costs: Sequence[Cost], limits: Chip | None) -> list[str]:
    """Rows of what is spent, with what each alone would take."""
    times = [{} if limits is None else roofline(spent, limits) for spent in costs]

    def row(name: str, values: Sequence[str], resource: str = "") -> str:
        return _row(name, *values, *(_ms(each[resource]) if resource in each else "" for each in times))

    def gigabytes(value: int | None) -> str:
        return "-" if value is None else f"{value / 1e9:.4g}"

    kinds = sorted({kind for spent in costs for kind in spent.sent or {}})
    return [
        row("TFLOP", [f"{spent.flops / 1e12:.4g}" for spent in costs], "FLOPs"),
        row("memory traffic, GB", [gigabytes(spent.traffic) for spent in costs], "memory"),
        row(
            "sent to others, GB",
            [gigabytes(None if spent.sent is None else sum(spent.sent.values())) for spent in costs],
            "interconnect",
        ),
        *(row(f"  {kind}", [gigabytes((spent.sent or {}).get(kind, 0)) for spent in costs]) for kind in kinds),
    ]


def _memory(spent: Cost, topology: Topology) -> str:
    over = topology.limits is not None and (spent.arguments is None or spent.memory > topology.limits.memory)
    return f"{spent.memory / GIB:.4g}{' too big' if over else ''}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms"


def _row(name: str, *values: str) -> str:
    return f"{name:<22}" + "".join(f"{value:>16}" for value in values).rstrip()


def _compiler(topology: Topology) -> tuple[str, ...]:
    return {"cpu": (), "tpu": ("libtpu",), "cuda": ("jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12")}[topology.platform]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m vasa_jax.training.plan", description="Plan a run for a machine that is not here.")
    parser.add_argument("config", nargs="*", help="names or files of configs, as training takes them")
    parser.add_argument("--model", choices=("joyvasa",), help="instead of configs, with --render: the public pair")
    parser.add_argument("--topology", required=True, help="v5e:2x4, v5p:4x4x4, cuda:h100x8, cuda:rtx4090, cpu:8, ...")
    parser.add_argument("--render", action="store_true", help="plan inference on one device instead of training")
    parser.add_argument("--batches", nargs="+", type=int, help="samples a device (default 1 2); two make a fit")
    parser.add_argument("--parallel", choices=("sharded", "jit"), help="how the step is spread (default sharded)")
    parser.add_argument("--fsdp", type=int, help="devices that share one copy of the state; 0 is all")
    parser.add_argument("--accumulate", type=int, help="micro-batches a step")
    parser.add_argument("--remat", action="store_true", default=None, help="compute cheap parts again")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), help="of computation")
    return parser.parse_args(arguments)


def plan(arguments: Sequence[str]) -> str:
    """The text that the command prints.

    Raises:
        UserError: for bad flags, a topology that cannot be planned, or a config that it cannot run.
    """
    options = _parse(arguments)
    given = {name: getattr(options, name) for name in ("batches", "parallel", "fsdp", "accumulate", "remat", "dtype")}
    given = {name: value for name, value in given.items() if value is not None}
    idle = [name for name in given if name != "dtype"]
    if options.render and idle:
        raise UserError(f"--{idle[0]} is of training steps and means nothing with --render; leave one of them out")
    batches = given.pop("batches", [1, 2])
    if min(batches) < 1 or len(batches) > 2 or len(set(batches)) < len(batches):
        raise UserError(f"{batches=} must be one or two different numbers, 1 or more")
    given = {"parallel": "sharded"} | given
    if options.model and (options.config or not options.render):
        raise UserError(f"--model {options.model} is planned with --render and without configs")
    if not (options.config or options.model):
        raise UserError("nothing to plan; name a config such as autoencoder_512, or --model joyvasa with --render")
    loaded = [(name, configs.load(name)) for name in options.config]
    topology = find_topology(options.topology)
    texts: list[str] = []
    frames: list[float | None] = []
    if options.model:
        dtype = planned_dtype(given.get("dtype", "auto"), topology)
        tables = [inference_table(call, topology) for call in public_costs(topology, dtype)]
        frames = [frame for _, frame in tables]
        texts.append("\n\n".join([heading(options.model, dtype, topology), *(table for table, _ in tables)]))
    for name, experiment in loaded:
        experiment = dataclasses.replace(experiment, batch_size=given.get("accumulate", 1), **given)
        if options.render:
            table, frame = inference_table(inference_cost(experiment, topology), topology)
            frames.append(frame)
        else:
            table = train_table(experiment, topology, batches)
        dtype = computing(experiment, topology).dtype
        texts.append(f"{heading(configs.find(name).name, dtype, topology)}\n{table}")
    known = [frame for frame in frames if frame is not None]
    if len(known) == len(frames) > 1:
        texts.append(f"together, estimated: {1 / sum(known):.1f} frames/s, the portrait encoded before")
    return "\n\n".join(texts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    jax.config.update("jax_platforms", "cpu")  # whatever is here stays free
    return run("plan", lambda: [plan(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
