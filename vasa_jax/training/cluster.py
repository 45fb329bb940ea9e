"""Many hosts as one run, through `jax.distributed` alone.

Every process runs the same program on its own devices; what they must agree on (when to stop, that data is made, what
was measured on it) goes through the functions here, which do nothing in a run of one process.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vasa_jax.errors import UserError


def join(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Join the cluster; call it before anything asks for a device.

    Without arguments JAX finds the cluster itself (SLURM, Open MPI, Kubernetes, TPU pods and others).

    Args:
        coordinator: HOST:PORT of process 0, reachable from all.
        processes: how many there are.
        process: number of this one, from 0.

    Raises:
        UserError: where only some of the three are given, they make no sense, or no cluster is found.
    """
    given = (bool(coordinator), processes > 0, process >= 0)
    if any(given) and not all(given):
        raise UserError(
            f"{coordinator=}, {processes=}, {process=}: give all three (--coordinator HOST:PORT --processes N "
            "--process I), or --distributed alone where JAX can find the cluster"
        )
    if all(given) and process >= processes:
        raise UserError(f"{process=} must be below {processes=}: processes count from 0")
    try:
        if all(given):
            jax.distributed.initialize(coordinator, processes, process)
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot join a cluster: {reason}; name --coordinator, --processes and --process") from error


def leave() -> None:
    """Leave the cluster, where this process is part of one."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def is_first() -> bool:
    """Whether this process is the one that writes logs and makes data."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Wait until all processes are here; `name` appears in the error of one that waits in vain."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(flag: bool) -> bool:
    """What process 0 says; all must ask at the same point of the program."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.broadcast_one_to_all(flag))


def from_first(value: Any, like: Any) -> Any:
    """A tree of arrays that process 0 has, on every process; all must ask at the same point of the program.

    Args:
        value: the arrays on process 0; whatever else on the others.
        like: arrays or shapes of the same tree, on all.
    """
    if jax.process_count() == 1 or not jax.tree.leaves(like):
        return value if is_first() else like
    mine = value if is_first() else jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    return multihost_utils.broadcast_one_to_all(mine)


def asked_to_stop(step: int) -> bool:
    """Whether some process was sent SIGTERM and all have now done `step` steps: one answer for all, a few steps after
    the signal. Ask at every step. JAX listens for the signal."""
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)
