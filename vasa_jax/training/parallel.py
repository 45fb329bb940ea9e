"""Two ways to spread one step over devices (design section 2).

* `jit`: a mesh of Auto axes, the batch split over its axis "data", the state replicated, the mean over the global
  batch.
* `pmap`: one replica a device, the batch with a leading device axis, gradients averaged over the axis "data".

Both agree to rounding. A `Strategy` only places and compiles; it knows no task.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import jax_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vasa_jax.training.step import TrainStep

AXIS = "data"


@dataclasses.dataclass(frozen=True)
class Strategy:
    """How state and batches are placed and a step is compiled.

    axis_name: what the step must average over, or None.
    compile: a train step to the compiled one, which gives up its state's memory.
    place: a state or key (arrays of any kind) to where the compiled step wants it.
    place_batch: NumPy arrays with a leading batch axis, likewise.
    collect: a placed state, or metrics, to one whole copy.
    """

    axis_name: str | None
    compile: Callable[[TrainStep], Any]
    place: Callable[[Any], Any]
    place_batch: Callable[[Any], Any]
    collect: Callable[[Any], Any]


def make_strategy(name: str, batch_size: int) -> Strategy:
    """The strategy called `jit` or `pmap` over all devices; raises ValueError where they cannot share the batch
    evenly."""
    devices = jax.device_count()
    if batch_size % devices:
        raise ValueError(f"{batch_size=} does not divide over {devices} devices; make it a multiple of {devices}")
    mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,))
    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    if name == "jit":
        return Strategy(
            axis_name=None,
            compile=lambda step: jax.jit(
                step,
                in_shardings=(replicated, split, replicated),
                out_shardings=(replicated, replicated),
                donate_argnums=0,
            ),
            place=lambda tree: jax.device_put(tree, replicated, may_alias=False),
            place_batch=lambda batch: jax.device_put(batch, split),
            collect=lambda tree: jax.device_put(tree, jax.local_devices()[0]),
        )
    if name == "pmap":
        by_device = lambda x: np.reshape(x, (devices, batch_size // devices, *np.shape(x)[1:]))  # noqa: E731
        return Strategy(
            axis_name=AXIS,
            compile=lambda step: jax.pmap(step, axis_name=AXIS, donate_argnums=0),
            place=jax_utils.replicate,
            place_batch=lambda batch: jax.device_put(jax.tree.map(by_device, batch), split),
            collect=jax_utils.unreplicate,
        )
    raise ValueError(f"parallel={name!r} is unknown; choose jit or pmap")
