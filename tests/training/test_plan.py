import dataclasses
import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.training.toy import EXPERIMENT, make_toy
from vasa_jax.checkpoint import flatten
from vasa_jax.nn.cost import count_jaxpr
from vasa_jax.training import plan, sharding, topology
from vasa_jax.training.hlo import COLLECTIVES, Module
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.plan import Cost, asked_memory, cost, largest_batch, roofline, step_seconds
from vasa_jax.training.program import make_program
from vasa_jax.training.topology import CHIPS, GIB, GPUS, Chip, Topology, find_topology

BY_HAND = """HloModule jit_step, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter.1 (input: bf16[800]) -> bf16[100] {
  %input = bf16[800]{0:T(256)(128)(2,1)} parameter(0)
  %all-reduce.9 = bf16[800]{0} all-reduce(%input), channel_id=7, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  ROOT %slice = bf16[100]{0} slice(%all-reduce.9), slice={[0:100]}
}

%begin (p: f32[25]) -> (f32[25], f32[100], u32[]) {
  %p = f32[25]{0} parameter(0)
  %all-gather.1 = f32[100]{0} all-gather(%p), channel_id=3, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %start = (f32[25]{0}, f32[100]{0}, u32[]{:S(2)}) custom-call(%all-gather.1), custom_call_target="Start"
}

%end (p.1: f32[25]) -> f32[100] {
  %p.1 = f32[25]{0} parameter(0)
  %all-gather.2 = f32[100]{0} all-gather(%p.1), channel_id=3, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %done = f32[100]{0} custom-call(%all-gather.2), custom_call_target="Done"
}

%body (s: (s32[], f32[10])) -> (s32[], f32[10]) {
  %s = (s32[], f32[10]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[10]{0} get-tuple-element(%s), index=1
  %y = f32[10]{0} all-reduce(%x), channel_id=4, replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_1'}, to_apply=%add
  ROOT %next = (s32[], f32[10]{0}) tuple(%i, %y)
}

%condition (s.1: (s32[], f32[10])) -> pred[] {
  %s.1 = (s32[], f32[10]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  %bound = s32[] constant(5)
  ROOT %less = pred[] compare(%i.1, %bound), direction=LT
}

ENTRY %main (in: f32[25], wide: bf16[800], state: (s32[], f32[10])) -> f32[100] {
  %in = f32[25]{0} parameter(0)
  %wide = bf16[800]{0} parameter(1)
  %state = (s32[], /*index=1*/f32[10]{0}) parameter(2)
  %begun = (f32[25]{0}, f32[100]{0}, u32[]) fusion(%in), kind=kCustom, calls=%begin
  %scattered = bf16[100]{0} fusion(%wide), kind=kCustom, calls=%all-reduce-scatter.1
  %moved = (bf16[100]{0}, bf16[100]{0}) collective-permute-start(%scattered), channel_id=1, source_target_pairs={{0,1}}
  %permuted = bf16[100]{0} collective-permute-done(%moved)
  %loop = (s32[], f32[10]{0}) while(%state), condition=%condition, body=%body
  %turned = bf16[100]{0} all-to-all(%permuted), channel_id=9, replica_groups={}, dimensions={0}
  ROOT %ended = f32[100]{0} fusion(%in), kind=kCustom, calls=%end
}
"""


def test_collectives_are_counted_once_where_they_start_and_as_often_as_they_run():
    assert Module(BY_HAND).bytes_sent() == {
        "all-reduce": 5 * 2 * 40 // 2,  # two devices, in a loop of five rounds
        "all-gather": 3 * 100,  # one, in two computations; four devices
        "reduce-scatter": 1600 * 7 // 8,
        "all-to-all": 200 * 7 // 8,  # no groups: all eight
        "collective-permute": 200,
    }


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        Module("HloModule nothing\n")


def mesh_of(*shape):
    return jax.make_mesh(shape, ("data", "fsdp")[: len(shape)], axis_types=(AxisType.Auto,) * len(shape))


def compiled(function, placed, result, *shapes):
    return Module(jax.jit(function, in_shardings=placed, out_shardings=result).lower(*shapes).compile().as_text())


def test_the_sum_of_an_array_over_eight_devices_is_one_all_reduce():
    """Each device sums its rows and the sums (1000 floats) go round the ring: 2 x 7 / 8 of 4000 bytes."""
    mesh = mesh_of(8)
    rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    module = compiled(lambda x: x.sum(0), rows, whole, jax.ShapeDtypeStruct((8, 1000), jnp.float32))
    assert module.bytes_sent() == {"all-reduce": 2 * 7 * 4000 // 8}


def test_a_loop_gathers_in_every_round():
    """Four devices of the axis, each with 2000 of 8000 floats, gather in five rounds and once more at the end."""
    mesh = mesh_of(2, 4)
    split, whole = NamedSharding(mesh, PartitionSpec("fsdp")), NamedSharding(mesh, PartitionSpec())

    def rounds(x):
        def body(carry, _):
            carry = jax.lax.with_sharding_constraint(jnp.sin(carry), whole)
            return jax.lax.with_sharding_constraint(carry, split), None

        return jax.lax.scan(body, x, None, length=5)[0]

    module = compiled(rounds, split, split, jax.ShapeDtypeStruct((8, 1000), jnp.float32))
    assert module.bytes_sent() in ({}, {"all-gather": 5 * 3 * 8000})  # the compiler may see that nothing is needed


def test_a_product_reads_its_factors_and_writes_its_result():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((64, 32), (32, 16))]
    module = Module(jax.jit(jnp.matmul).lower(*shapes).compile().as_text())
    assert module.memory_traffic() == 4 * (64 * 32 + 32 * 16 + 64 * 16)


def test_slices_of_a_stack_count_as_slices():
    """A scan over ten layers reads each layer once, not ten times the stack; the carry goes in and out each time."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1000,), (10, 1000))]

    def layers(x, stack):
        return jax.lax.scan(lambda carry, layer: (jnp.sin(carry * layer), None), x, stack)[0]

    moved = Module(jax.jit(layers).lower(*shapes).compile().as_text()).memory_traffic()
    assert 10 * 3 * 4000 <= moved < 10 * 6 * 4000


LIMITS = Chip(100.0, 1000, 10.0, 5.0, "made up")
COST = Cost(300.0, 400, 100, 50, {"all-reduce": 10, "all-gather": 5}, 0.0)


def test_the_roofline_is_the_slowest_resource():
    assert roofline(COST, LIMITS) == {"FLOPs": 3.0, "memory": 5.0, "interconnect": 3.0}
    refused = COST._replace(traffic=None, sent=None)
    assert roofline(refused, LIMITS) == {"FLOPs": 3.0}
    assert step_seconds(COST, LIMITS) == 5.0 and step_seconds(refused, LIMITS) is None


@pytest.mark.parametrize(
    "batches, memory, capacity, most",
    [
        ((1, 2), (300, 400), 1000, 8),
        ((1, 2), (300, 400), 999, 7),
        ((2, 4), (400, 600), 1000, 8),
        ((1, 2), (1000, 1900), 1000, 1),
        ((1, 2), (1100, 2000), 1000, 0),
        ((1, 2), (300, 300), 1000, None),
    ],
)
def test_the_largest_batch_lies_on_the_line(batches, memory, capacity, most):
    assert largest_batch(batches, memory, capacity) == most


def test_a_compilers_refusal_says_what_it_asked_for():
    message = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    assert asked_memory(message + "Used 20.5G of 15.75G hbm. Exceeded hbm capacity by 4.75G.") == round(20.5 * GIB)
    assert asked_memory("INTERNAL: something else") is None


def test_a_plan_of_a_toy_has_the_bytes_that_the_shardings_say(monkeypatch):
    """On four devices, two of which share a copy; what the compiled step takes is state, batch and key."""
    monkeypatch.setattr(sharding, "SMALL", 1)
    task, devices = make_toy(), jax.devices()[4:]
    here = Topology("cpu:4", devices, None)
    experiment = dataclasses.replace(EXPERIMENT, parallel="sharded", fsdp=2)
    strategy = make_strategy(experiment.parallel, 8, experiment.fsdp, 1, devices)
    program = make_program(experiment, task, strategy)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, strategy.target(program.shapes))
    assert {device for place in jax.tree.leaves(shardings) for device in place.device_set} == set(devices)
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    spent = cost(program.step, (program.shapes, task.batch_spec(8), key, {}), 4, here)
    batch = sum(leaf.size * leaf.dtype.itemsize for leaf in task.batch_spec(8).values()) // 4
    assert spent.arguments == sharding.bytes_per_device(program.shapes, shardings) + batch + 8
    assert spent.memory >= spent.arguments
    assert spent.sent and spent.sent.keys() <= set(COLLECTIVES)
    forward = 2 * 8 * 3 * 2  # one product of (8, 3) and (3, 2); backwards one more, for the kernel alone
    assert spent.flops >= 2 * forward / 4


def test_the_program_of_a_plan_is_that_of_the_loop():
    """Measured constants replace the placeholders and change no shape."""
    task = make_toy()
    program = make_program(EXPERIMENT, task, make_strategy("jit", 8))
    measured = program.fresh({}, task.measure(Path(), None)[0])
    assert jax.tree.map(lambda x: x.shape, measured) == jax.tree.map(lambda x: x.shape, program.shapes)
    np.testing.assert_allclose(flatten(measured.constants)["shift"], 0.1, rtol=1e-6)


def write_config(path, experiment):
    path.write_text(f"from tests.training import tiny, toy\n\n\ndef get_config():\n    return {experiment}\n")
    return str(path)


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path / "tiny.py", "tiny.STAGE_2")


def test_a_stage_is_planned_for_eight_devices(config, capsys):
    assert plan.main([config, "--topology", "cpu:8", "--batches", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny.py for cpu:8: 8 x cpu, float32; jax ")
    assert lines[1] == "no data sheet, so no estimates"
    names = [line[:22].strip() for line in lines]
    for name in ("memory, GiB", "state alone, GiB", "TFLOP", "memory traffic, GB", "sent to others, GB"):
        assert name in names
    assert "step by roofline" not in names and "fitted" not in lines[-1]


def test_a_data_sheet_adds_estimates_and_a_fit(tmp_path, capsys, monkeypatch):
    """Two devices, with the data sheet of a machine that was never built; every flag reaches the step."""
    sizes = []

    def make(experiment):
        sizes.append((experiment.batch_size, experiment.accumulate, experiment.remat, experiment.dtype))
        return make_toy()

    monkeypatch.setattr(plan, "make_task", make)
    monkeypatch.setattr(plan, "find_topology", lambda name: Topology(name, jax.devices()[:4], LIMITS))
    toy = write_config(tmp_path / "toy.py", "toy.EXPERIMENT")
    assert plan.main([toy, *"--topology cpu:4 --accumulate 3 --remat --fsdp 2 --dtype bfloat16".split()]) == 0
    assert sizes == [(batch * 4 * 3, 3, True, "bfloat16") for batch in (1, 2)]
    lines = capsys.readouterr().out.splitlines()
    assert "sharded: data 2 x fsdp 2, accumulate 3, remat on" in lines[2]
    assert lines[3].split() == "a device batch 1 batch 2 estimate 1 estimate 2".split()
    assert lines[4].count("too big") == 2  # of 1000 bytes
    rows = {line[:22].strip(): line[22:].split() for line in lines[4:-1]}
    assert len(rows["step by roofline"]) == len(rows["samples/s by roofline"]) + 2 == 4
    assert lines[-1].startswith("fitted (a line through batches 1 and 2): the largest batch that fits is ")


def test_a_sampler_is_planned_from_the_command_line(config, capsys, monkeypatch):
    monkeypatch.setattr(plan, "SAMPLER_STEPS", 2)
    assert plan.main([config, "--topology", "cpu:8", "--render"]) == 0
    text = capsys.readouterr().out
    assert "sampler, 6 frames, 2 steps, 3 branches a call" in text and "no data sheet, so no estimates" in text


def test_the_public_pair_is_planned_without_weights(capsys, monkeypatch):
    """W and G with the savings of `benchmarks.liveportrait`, 306 and 780 GFLOP a frame; on the machine of `LIMITS` the
    two calls take 8 frames x 1085 GFLOP and the sampler's FLOPs at 100 FLOP/s."""

    def count(jitted, arguments, devices, topology):
        return COST._replace(flops=2.0 * count_jaxpr(jitted.trace(*arguments).jaxpr.jaxpr))

    monkeypatch.setattr(plan, "cost", count)
    monkeypatch.setattr(plan, "find_topology", lambda name: Topology(name, jax.devices()[:1], LIMITS))
    assert plan.main("--model joyvasa --topology cpu:1 --render --dtype bfloat16".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("joyvasa for cpu:1: 1 x cpu, bfloat16")
    calls = [line for line in lines if " a call, one device" in line]
    assert calls[0].startswith("W and G, bfloat16, 8 frames")
    assert calls[1].startswith("audio encoder and sampler, float32, 50 steps, 2 branches, 100 frames")
    teraflops = [float(line[22:].split()[0]) for line in lines if line.startswith("TFLOP")]
    assert teraflops[0] == pytest.approx(8 * 1.0854, rel=1e-3) and teraflops[1] > 0.15
    assert lines[-1].startswith("together, estimated")


def test_auto_is_bfloat16_on_what_is_planned_and_not_on_what_is_here():
    for name, dtype in (("v5e:2x4", "bfloat16"), ("cuda:h100x8", "bfloat16"), ("cpu:8", "float32")):
        assert plan.computing(EXPERIMENT, Topology(name, (), None)).dtype == dtype
    chosen = dataclasses.replace(EXPERIMENT, dtype="float32")
    assert plan.computing(chosen, Topology("v5e:2x4", (), None)).dtype == "float32"


@pytest.mark.parametrize("name", ["", "v5e", "v5e:", "v9:2x2", "cuda", "cuda:a100x8", "cuda:h100x0", "cpu:0", "h100:8"])
def test_an_unknown_topology_ends_with_one_line(name, config, capsys):
    assert plan.main([config, "--topology", name]) == 2
    error = capsys.readouterr().err
    assert error == f"plan: error: topology {name!r} is unknown; choose one such as {topology.EXAMPLES}\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--topology", "cpu:8"], "nothing to plan"),
        (["--topology", "cpu:8", "--model", "joyvasa"], "--model joyvasa is planned with --render and without configs"),
        (["CONFIG", "--topology", "cpu:8", "--render", "--model", "joyvasa"], "with --render and without configs"),
        (["missing.py", "--topology", "cpu:8"], "config 'missing.py' is not a Python file"),
        (["CONFIG", "--topology", "cpu:99"], "JAX has started with 8 devices; plan in a new process"),
        (
            ["CONFIG", "--topology", "cpu:8", "--batches", "1", "1"],
            "batches=[1, 1] must be one or two",
        ),
        (["CONFIG", "--topology", "cpu:8", "--render", "--batches", "1"], "--batches is of training steps"),
        (["CONFIG", "--topology", "cpu:8", "--render", "--remat"], "--remat is of training steps"),
        (["CONFIG", "--topology", "cpu:8", "--parallel", "jit", "--fsdp", "2"], "fsdp=2 must be 0, or more with"),
        (["CONFIG", "--topology", "cpu:8", "--fsdp", "3"], "fsdp=3 does not divide 8 devices"),
        (["CONFIG", "--topology", "cpu:8", "--parallel", "pmap"], "invalid choice: 'pmap'"),
    ],
)
def test_bad_input_ends_with_one_line(arguments, message, config, capsys):
    assert jax.device_count() == 8  # JAX has started
    assert plan.main([config if word == "CONFIG" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("plan: error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize("name, package", [("v5e:2x4", "libtpu"), ("cuda:h100x8", "jax_cuda12_plugin")])
def test_a_compiler_that_is_missing_is_named(name, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"needs {package}: pip install '.\[plan\]'"):
        find_topology(name)


def test_pmap_takes_no_devices_by_name():
    with pytest.raises(ValueError, match="parallel='pmap' takes all devices at hand"):
        make_strategy("pmap", 8, on=jax.devices())


def test_every_gpu_has_a_description_that_agrees_with_its_data_sheet():
    for chip in GPUS:
        text = (topology.TARGETS / f"{chip}.txtpb").read_text()
        assert f"device_memory_size: {CHIPS[chip].memory}" in text
        bandwidth = float(text.split("memory_bandwidth: ")[1].split()[0])
        assert CHIPS[chip].bandwidth == pytest.approx(bandwidth, rel=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="libtpu is for Linux")
def test_a_tpu_that_is_not_here_has_its_chips():
    pytest.importorskip("libtpu", reason="needs the compiler of TPUs: pip install '.[plan]'")
    found = find_topology("v5e:2x4")
    assert len(found.devices) == 8 and found.limits == CHIPS["v5e"]
    with pytest.raises(ValueError, match="topology 'v5e:3x5' is refused: .*choose as v5e:2x4"):
        find_topology("v5e:3x5")


@pytest.mark.skipif(sys.platform != "linux", reason="libtpu is for Linux")
def test_the_demo_step_compiles_for_eight_tpus_that_are_not_here(capsys):
    """Stage 2 alone: stage 1 takes minutes."""
    pytest.importorskip("libtpu", reason="needs the compiler of TPUs: pip install '.[plan]'")
    path = Path(__file__).parents[2] / "configs" / "demo_motion.py"
    assert plan.main([str(path), "--topology", "v5e:2x4", "--batches", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("demo_motion.py for v5e:2x4: 8 x TPU v5 lite, bfloat16; jax ")
    rows = {line[:22].strip(): line[22:].split() for line in lines[4:]}
    assert 0.0 < float(rows["state alone, GiB"][0]) < float(rows["memory, GiB"][0]) < 16.0
    assert float(rows["sent to others, GB"][0]) > 0.0 and rows["step by roofline"][1] == "ms"
