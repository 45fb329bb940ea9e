"""The same work on Ray, for many machines: a task a video.

Tasks are tried again by the rules of `pool`, not by Ray's, so that a video that kills its workers ends in the manifest
and not in a loop. Every node needs this package with its extra [prepare], and sees the folders under the same paths.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import vasa_jax
from vasa_jax.errors import UserError, reason
from vasa_jax.preparation.pool import ENVIRONMENT, Crashes, inherited
from vasa_jax.preparation.sources import Video
from vasa_jax.preparation.worker import BROKEN, Outcome, Work, opened

LOCAL = "local"
"""The address that starts a cluster of this machine alone, for a trial."""
_STORE_BYTES = 100_000_000
"""Ray's object store of a local cluster: videos and clips travel through files, not through it."""
_PATIENCE = 10.0
"""Seconds to wait for a cluster to answer."""
_OPEN: dict[Work, tuple[AbstractContextManager, Callable[[Video], Outcome]]] = {}
"""Of a worker's process: the helpers that its tasks share."""


def run_on_ray(videos: Sequence[Video], work: Work, workers: int, address: str) -> Generator[Outcome]:
    """Prepare videos on a Ray cluster, one core a video.

    Args:
        videos: in the order in which they are begun.
        work: what workers need to know.
        workers: videos at once; 0 for as many as the cluster has cores.
        address: of the cluster ("auto", "HOST:PORT", "ray://HOST:PORT"), or `LOCAL`.

    Yields:
        What became of each, in the order in which they end.

    Raises:
        UserError: Ray is not installed, the cluster is not there, its nodes lack the package or do not see a folder.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray needs Ray; install vasa-jax[prepare], or leave --ray out") from error
    with _cluster(ray, address, workers):
        task = ray.remote(num_cpus=1, max_retries=0)(_task)
        todo, crashes = deque(videos), Crashes(work)
        flying: dict[Any, Video] = {}
        while todo or flying:
            cores = int(ray.cluster_resources().get("CPU", 0))  # nodes come and go
            at_once = min(workers, cores) if workers else cores
            if not at_once and not flying:
                raise UserError(f"--ray {address}: the cluster has no cores to work on")
            while todo and len(flying) < at_once:
                video = todo.popleft()
                flying[task.remote(work, video)] = video
            for reference in ray.wait(list(flying), num_returns=1)[0]:
                video = flying.pop(reference)
                outcome = _outcome(ray, reference, video, crashes)
                if outcome is None:
                    todo.append(video)
                elif outcome.state == BROKEN:
                    raise UserError(outcome.error)
                else:
                    yield outcome


def _outcome(ray: Any, reference: Any, video: Video, crashes: Crashes) -> Outcome | None:
    """What became of a task; None where its video is to be tried again."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # `_task` raises nothing itself, so it could not be found or read
        raise UserError(
            f"the cluster's nodes cannot run this package ({reason(error.cause)[-200:]}); install the same "
            "vasa-jax[prepare] on each"
        ) from error
    except ray.exceptions.RuntimeEnvSetupError as error:
        raise UserError(f"the cluster's nodes cannot start workers: {reason(error)[-200:]}") from error
    except ray.exceptions.RayError as error:
        return crashes.again(video, f"{type(error).__name__}: {reason(error)[:200]}")


@contextmanager
def _cluster(ray: Any, address: str, workers: int) -> Iterator[None]:
    """Be connected to a cluster, or have one of our own."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    still = {"RAY_USAGE_STATS_ENABLED": "0"}  # nothing leaves the machine
    try:
        if address == LOCAL:  # its workers inherit our variables, which is quicker than to hand them over
            size = {"num_cpus": workers or os.cpu_count(), "num_gpus": 0, "object_store_memory": _STORE_BYTES}
            with inherited(ENVIRONMENT | still | {"PYTHONPATH": os.pathsep.join(_import_paths())}):
                ray.init(LOCAL, include_dashboard=False, **size, **quiet)
        else:
            _check_reachable(address)
            with inherited(still):
                ray.init(address, runtime_env={"env_vars": ENVIRONMENT}, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        what = reason(error).partition(". ")[0][:200]
        raise UserError(f"--ray {address}: {what}; start the cluster (`ray start --head`), or name another") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse at once what Ray would try for minutes; raises ConnectionError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"nobody answers there ({reason(error)})") from error


def _import_paths() -> list[str]:
    """Where workers of this machine find this package, and what the driver's environment names."""
    here = str(Path(vasa_jax.__file__).resolve().parents[1])
    return [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _task(work: Work, video: Video) -> Outcome:
    """What a Ray worker does with a video; it raises nothing."""
    try:
        if work not in _OPEN:
            for _, (manager, _prepare) in list(_OPEN.items()):
                manager.__exit__(None, None, None)
            _OPEN.clear()
            manager = opened(work)
            _OPEN[work] = manager, manager.__enter__()
        return _OPEN[work][1](video)
    except UserError as error:
        return Outcome(video, BROKEN, reason(error))
