"""Three ways to spread one step over devices (design section 2).

* `jit`: a mesh of Auto axes, the batch split over its axis "data", the state replicated, the mean over the global
  batch.
* `pmap`: one replica a device, the batch with a leading device axis, gradients averaged over the axis "data".
* `sharded`: as `jit` on a mesh (data, fsdp), the batch split over both axes and the state split over the second by the
  table of `sharding`; it is born split and never whole on one device.

They agree to rounding. A `Strategy` only places and compiles; it knows no task.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import jax_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from vasa_jax.training import sharding
from vasa_jax.training.step import TrainStep

AXIS = "data"
STRATEGIES = ("jit", "pmap", "sharded")


@dataclasses.dataclass(frozen=True)
class Strategy:
    """How state and batches are placed and a step is compiled.

    axis_name: what the step must average over, or None.
    compile: a train step and the shapes of its state to the compiled step, which gives up its state's memory.
    create: a function that makes a state to the state where the compiled step wants it.
    target: shapes of a state to shapes with shardings, as a checkpoint is to be read.
    adopt: a state read so to where the compiled step wants it.
    stored: a placed state as a checkpoint is to hold it.
    place: a key, or any arrays that every device needs whole, likewise.
    place_batch: NumPy arrays with a leading batch axis, likewise.
    collect: placed arrays to one whole copy on the first device.
    """

    axis_name: str | None
    compile: Callable[[TrainStep, Any], Any]
    create: Callable[[Callable[[], Any]], Any]
    target: Callable[[Any], Any]
    adopt: Callable[[Any], Any]
    stored: Callable[[Any], Any]
    place: Callable[[Any], Any]
    place_batch: Callable[[Any], Any]
    collect: Callable[[Any], Any]


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
        ValueError: for another name, a batch that the devices cannot share evenly, an `fsdp` that does not divide
            their number, or `pmap` on named devices.
    """
    devices = jax.device_count() if on is None else len(on)
    if batch_size % (devices * accumulate):
        parts = f"{devices} devices" + (f" times {accumulate=}" if accumulate > 1 else "")
        raise ValueError(f"{batch_size=} does not divide over {parts}; make it a multiple of {devices * accumulate}")
    if name == "pmap":
        if on is not None:
            raise ValueError("parallel='pmap' takes all devices at hand and no others; choose jit or sharded")
        return _pmap(devices, batch_size)
    if name == "jit":
        mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=on)
        return _jit(mesh, PartitionSpec(AXIS))
    if name == "sharded":
        parts = fsdp or devices
        if devices % parts:
            raise ValueError(f"{fsdp=} does not divide {devices} devices; choose a divisor, or 0 for all")
        axes = (AXIS, sharding.AXIS)
        mesh = jax.make_mesh((devices // parts, parts), axes, axis_types=(AxisType.Auto,) * 2, devices=on)
        return _sharded(mesh, PartitionSpec(axes))
    raise ValueError(f"parallel={name!r} is unknown; choose one of {', '.join(STRATEGIES)}")


def _first_device(tree: Any) -> Any:
    return jax.device_put(tree, jax.local_devices()[0])


def _on_first_device(shapes: Any) -> Any:
    """Shapes of arrays on the first device."""
    here = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)


def _jit(mesh: Any, batch: PartitionSpec) -> Strategy:
    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, batch)

    def place(tree: Any) -> Any:
        return jax.device_put(tree, replicated, may_alias=False)

    return Strategy(
        axis_name=None,
        compile=lambda step, state: jax.jit(
            step, in_shardings=(replicated, split, replicated), out_shardings=(replicated, replicated), donate_argnums=0
        ),
        create=lambda make: place(make()),
        target=_on_first_device,
        adopt=place,
        stored=_first_device,
        place=place,
        place_batch=lambda batch: jax.device_put(batch, split),
        collect=_first_device,
    )


def _sharded(mesh: Any, batch: PartitionSpec) -> Strategy:
    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, batch)

    def compiled(step: TrainStep, state: Any) -> Any:
        places = sharding.shard(state, mesh)
        return jax.jit(
            step, in_shardings=(places, split, replicated), out_shardings=(places, replicated), donate_argnums=0
        )

    def target(shapes: Any) -> Any:
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            shapes,
            sharding.shard(shapes, mesh),
        )

    return Strategy(
        axis_name=None,
        compile=compiled,
        create=lambda make: jax.jit(make, out_shardings=sharding.shard(jax.eval_shape(make), mesh))(),
        target=target,
        adopt=lambda state: state,
        stored=lambda state: state,
        place=lambda tree: jax.device_put(tree, replicated),
        place_batch=lambda batch: jax.device_put(batch, split),
        collect=_first_device,
    )


def _pmap(devices: int, batch_size: int) -> Strategy:
    mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec(AXIS))

    def by_device(x: Any) -> Any:
        return np.reshape(x, (devices, batch_size // devices, *np.shape(x)[1:]))

    return Strategy(
        axis_name=AXIS,
        compile=lambda step, state: jax.pmap(step, axis_name=AXIS, donate_argnums=0),
        create=lambda make: jax_utils.replicate(make()),
        target=_on_first_device,
        adopt=jax_utils.replicate,
        stored=jax_utils.unreplicate,
        place=jax_utils.replicate,
        place_batch=lambda batch: jax.device_put(jax.tree.map(by_device, batch), split),
        collect=jax_utils.unreplicate,
    )
