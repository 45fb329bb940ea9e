"""Many hosts as one run, through `jax.distributed` alone.

Every process runs the same program on its own devices; what they must agree on (when to stop, that data is made, what
was measured on it) goes through the functions here, which do nothing in a run of one process.
"""

import itertools
import logging
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vasa_jax.errors import UserError, reason

LOGGER = logging.getLogger(__name__)
REMINDER = 600.0
"""Seconds after which a process that waits says so."""
_NUMBERS = itertools.count()
DONE, FAILED = "done:", "failed:"
"""How what process 0 says begins."""


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
        raise UserError(
            f"cannot join a cluster: {reason(error)}; name --coordinator, --processes and --process"
        ) from error


def leave() -> None:
    """Leave the cluster, where this process is part of one."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def is_first() -> bool:
    """Whether this process is the one that writes logs and makes data."""
    return jax.process_index() == 0


def told_by_first(name: str, work: Callable[[], str], patience: float) -> str:
    """What process 0 says once it has done something that the others wait for; all must ask at the same point.

    They wait through JAX's coordination service and not in a collective of devices, which give up after minutes; the
    service ends them where process 0 dies. Every `REMINDER` seconds they say what they wait for.

    Args:
        name: of the work, for messages.
        work: done by process 0 alone; what it returns, every process gets.
        patience: seconds that the others wait.

    Raises:
        UserError: on the others, where process 0 failed, or said nothing for that long.
    """
    if jax.process_count() == 1:
        return work()
    service, key = _service(), f"vasa_jax/{next(_NUMBERS)}/{name}"
    if is_first():
        try:
            answer = work()
        except BaseException as error:
            service.key_value_set(key, f"{FAILED}{reason(error)}")
            raise
        service.key_value_set(key, f"{DONE}{answer}")
        return answer
    since = time.monotonic()
    while True:
        try:
            answer = service.blocking_key_value_get(key, round(1000 * min(REMINDER, patience)))
            break
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise UserError(
                    f"process 0 is gone, which was to {name} ({reason(error)[:200]}); see its log"
                ) from error
            waited = time.monotonic() - since
            if waited >= patience:
                raise UserError(f"waited {waited:.0f} s in vain for process 0 to {name}; see its log") from error
            LOGGER.warning("process %d has waited %.0f s for process 0 to %s", jax.process_index(), waited, name)
    if answer.startswith(FAILED):
        raise UserError(f"process 0 could not {name}: {answer.removeprefix(FAILED)}")
    return answer.removeprefix(DONE)


def _service() -> Any:
    """The client of the coordination service that `join` has connected to."""
    from jax._src import distributed  # no public module gives it; Orbax takes it from here too

    return distributed.global_state.client


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
