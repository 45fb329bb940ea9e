"""Three ways to spread one step over devices, on one host or many (design section 2).

* `jit`: a mesh of Auto axes, the batch split over its axis "data", the state replicated, the mean over the global
  batch.
* `pmap`: one replica a device, the batch with a leading device axis, gradients averaged over the axis "data".
* `sharded`: as `jit` on a mesh (data, fsdp), the batch split over both axes and the state split over the second by the
  table of `sharding`; it is born split, and stays so. A layer gathers its kernel where it multiplies with it, in the
  compute dtype, once on the way forward and once on the way back, inside the loop of a stack of blocks; the kernel's
  gradient is summed into parts at once, and each device updates its own (Rajbhandari et al. 2020, ZeRO stage 3). So a
  device never holds a whole model, nor a whole gradient. CPU devices share XLA's threads; where those are too few for
  devices to meet within loops (NPROC counts them), all parameters are gathered before the step instead.

They agree to rounding. A `Strategy` only places and compiles; it knows no task. On many hosts the mesh spans all of
them, every process gives its own rows of a batch, and a checkpoint is written by all together.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import jax_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vasa_jax.errors import UserError
from vasa_jax.nn.gathering import gathered_by
from vasa_jax.training import sharding
from vasa_jax.training.step import TrainStep

AXIS = "data"
STRATEGIES = ("jit", "pmap", "sharded")
THREADS_PER_DEVICE = 4
"""XLA threads for each CPU device: with fewer, collectives inside and outside of a loop wait for each other."""


@dataclasses.dataclass(frozen=True)
class Strategy:
    """How state and batches are placed and a step is compiled.

    axis_name: what the step must average over, or None.
    compile: a train step and the shapes of its state to the compiled step, which gives up its state's memory.
    regather: whether kernels are gathered for each use, and what was gathered is not to be kept.
    create: a function that makes a state, and its arguments (equal on all processes), to the state where the compiled
        step wants it.
    target: shapes of a state to shapes with shardings, as a checkpoint is to be read.
    adopt: a state read so to where the compiled step wants it.
    stored: a placed state as a checkpoint is to hold it.
    place: NumPy arrays that every device needs whole, equal on all processes, to where the compiled step wants them.
    place_batch: this process's NumPy rows of a global batch, likewise.
    collect: (placed arrays, whether this process wants them) to NumPy arrays in its host's memory, or None; one array
        after the other, so that no device holds the whole; all processes must ask together.
    """

    axis_name: str | None
    compile: Callable[[TrainStep, Any], Any]
    regather: bool
    create: Callable[..., Any]
    target: Callable[[Any], Any]
    adopt: Callable[[Any], Any]
    stored: Callable[[Any], Any]
    place: Callable[[Any], Any]
    place_batch: Callable[[Any], Any]
    collect: Callable[..., Any]


def make_strategy(
    name: str, batch_size: int, fsdp: int = 0, accumulate: int = 1, on: Sequence[Any] | None = None
) -> Strategy:
    """The strategy of a name over all devices, or over some that need not be here.

    Args:
        name: one of STRATEGIES.
        batch_size: samples a step, over all devices.
        fsdp: devices that share one copy of the state under `sharded`; 0 is all of them.
        accumulate: micro-batches a step, each of which all devices share.
        on: devices of the mesh, those of a topology too, for which `compile` alone has a use; None is all devices.

    Raises:
        UserError: for another name, a batch that the devices cannot share evenly, an `fsdp` that does not divide
            their number, or `pmap` on named devices.
    """
    devices = jax.device_count() if on is None else len(on)
    if batch_size % (devices * accumulate):
        parts = f"{devices} devices" + (f" times {accumulate=}" if accumulate > 1 else "")
        raise UserError(f"{batch_size=} does not divide over {parts}; make it a multiple of {devices * accumulate}")
    if name == "pmap":
        if on is not None:
            raise UserError("parallel='pmap' takes all devices at hand and no others; choose jit or sharded")
        return _pmap()
    if name == "jit":
        mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=on)
        return _on_mesh(mesh, lambda shapes: _everywhere(shapes, mesh))
    if name == "sharded":
        parts = fsdp or devices
        if devices % parts:
            raise UserError(f"{fsdp=} does not divide {devices} devices; choose a divisor, or 0 for all")
        axes = (AXIS, sharding.AXIS)
        mesh = jax.make_mesh((devices // parts, parts), axes, axis_types=(AxisType.Auto,) * 2, devices=on)
        each = _meets_in_loops(mesh)
        gathering = gathered_by(_gathering(mesh)) if each else functools.partial(_at_once, mesh=mesh)
        return _on_mesh(mesh, lambda shapes: sharding.shard(shapes, mesh), gathering, regather=each)
    raise UserError(f"parallel={name!r} is unknown; choose one of {', '.join(STRATEGIES)}")


def _everywhere(tree: Any, mesh: Any) -> Any:
    """Shardings that keep a whole copy of every array on every device."""
    return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree)


def _with(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, shardings
    )


def _here(tree: Any) -> Any:
    """This process's first copy of replicated arrays."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _meets_in_loops(mesh: Any) -> bool:
    """Whether devices can gather inside of loops. CPU devices share XLA's threads, which NPROC counts."""
    if mesh.devices.flat[0].platform != "cpu":
        return True
    threads = int(os.environ.get("NPROC") or 0) or os.cpu_count() or 1
    return threads >= THREADS_PER_DEVICE * mesh.devices.size


def _gathering(mesh: Any) -> Callable[[Any], Any]:
    """What brings a kernel together that `sharding.outputs` splits, and its gradient back into parts."""
    replicated = NamedSharding(mesh, PartitionSpec())

    def part(kernel: Any) -> Any:
        place = sharding.outputs(kernel.shape, mesh.shape[sharding.AXIS])
        return jax.lax.with_sharding_constraint(kernel, NamedSharding(mesh, place))

    def whole(kernel: Any) -> Any:
        return jax.lax.with_sharding_constraint(part(kernel), replicated)

    gather = jax.custom_vjp(whole)
    gather.defvjp(lambda kernel: (whole(kernel), None), lambda _, slope: (part(slope),))
    return gather


def _to_host(tree: Any, wanted: bool, whole: Callable[[Any], Any]) -> Any:
    """A tree's leaves as NumPy arrays of their own, one after the other; `whole` makes a leaf one that NumPy reads."""

    def take(leaf: Any) -> Any:
        here = whole(leaf)
        return np.array(here) if wanted else None

    found = jax.tree.map(take, tree)
    return found if wanted else None


def _at_once(step: TrainStep, mesh: Any) -> TrainStep:
    """The same step, with all parameters gathered before it."""

    @functools.wraps(step)
    def gathering_step(state: Any, *arguments: Any) -> Any:
        whole = jax.lax.with_sharding_constraint(state.params, NamedSharding(mesh, PartitionSpec()))
        return step(state._replace(params=whole), *arguments)

    return gathering_step


def _on_mesh(
    mesh: Any,
    places: Callable[[Any], Any],
    gathering: Callable[[TrainStep], TrainStep] = lambda step: step,
    regather: bool = False,
) -> Strategy:
    """A step under `jit` on a mesh, its state where `places` says, its batch split over all axes; `gathering` makes
    a step bring together what is split."""
    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    together = jax.jit(lambda leaf: leaf, out_shardings=replicated)

    def whole(leaf: Any) -> Any:
        return leaf if leaf.is_fully_addressable or leaf.is_fully_replicated else together(leaf)

    return Strategy(
        axis_name=None,
        compile=lambda step, shapes: jax.jit(
            gathering(step),
            in_shardings=(places(shapes), split, replicated, replicated),
            out_shardings=(places(shapes), replicated),
            donate_argnums=0,
        ),
        regather=regather,
        create=lambda make, *arguments: jax.jit(make, out_shardings=places(jax.eval_shape(make, *arguments)))(
            *arguments
        ),
        target=lambda shapes: _with(shapes, places(shapes)),
        adopt=lambda state: state,
        stored=lambda state: state,
        place=lambda tree: jax.device_put(tree, replicated),
        place_batch=lambda rows: jax.tree.map(lambda x: jax.make_array_from_process_local_data(split, x), rows),
        collect=lambda tree, wanted=True: _to_host(tree, wanted, whole),
    )


def _pmap() -> Strategy:
    """One replica a device. Checkpoints hold one copy, as an array of all processes."""
    mesh = jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
    replicated = NamedSharding(mesh, PartitionSpec())
    here = jax.sharding.Mesh(np.asarray(jax.local_devices()), (AXIS,))
    split = NamedSharding(here, PartitionSpec(AXIS))

    def by_device(x: Any) -> Any:
        return np.reshape(x, (jax.local_device_count(), -1, *np.shape(x)[1:]))

    def by_copy(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (jax.local_device_count(), *jnp.shape(x))), tree)

    # Placed as the step returns its state; arrays of any other mesh would have the second step compiled once more.
    replicate = jax.jit(by_copy, out_shardings=split)

    def stored(state: Any) -> Any:
        one = jax.device_get(jax_utils.unreplicate(state))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(replicated, x), one)

    return Strategy(
        axis_name=AXIS,
        compile=lambda step, shapes: jax.pmap(step, axis_name=AXIS, donate_argnums=0),
        regather=False,
        create=lambda make, *arguments: replicate(jax.jit(make)(*arguments)),
        target=lambda shapes: _with(shapes, _everywhere(shapes, mesh)),
        adopt=lambda state: replicate(jax.device_get(_here(state))),
        stored=stored,
        place=replicate,
        place_batch=lambda rows: jax.device_put(jax.tree.map(by_device, rows), split),
        collect=lambda tree, wanted=True: _to_host(tree, wanted, jax_utils.unreplicate),
    )
