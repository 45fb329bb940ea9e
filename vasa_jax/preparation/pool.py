"""A pool of processes on this machine that outlives its workers.

A worker may die at any moment (a native library crashes, the system takes its memory back, somebody kills it). That
costs the video in its hands and nothing else: a new worker starts, and the video is tried once more, last of all, when
less happens beside it. Workers end with the driver, however it ends.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from vasa_jax.errors import UserError, reason
from vasa_jax.preparation.sources import Video
from vasa_jax.preparation.worker import BROKEN, RUNNING, Outcome, Work, note_failure, opened

TRIES = 2
"""How often a video is tried that workers die of."""
STILLBORN = 3
"""Workers in a row that may die before they are ready."""
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "ERROR", "GLOG_minloglevel": "2"}
"""Of a worker: it leaves accelerators alone and takes one core."""
LOG = "workers.log"
"""Of a folder of records: what workers of the last run said, native libraries above all."""
_READY = "ready"


class _Worker(NamedTuple):
    """A process, and our end of the pipe to it."""

    process: BaseProcess
    connection: Any


class Crashes:
    """Which videos workers died of, and how often."""

    def __init__(self, work: Work):
        """Nothing has happened yet."""
        self._work = work
        self._times: dict[str, int] = {}

    def again(self, video: Video, how: str) -> Outcome | None:
        """Note that a worker died; None where the video is to be tried again, else its outcome, written down."""
        times = self._times[video.key] = self._times.get(video.key, 0) + 1
        if times < TRIES:
            return None
        return note_failure(self._work, video, f"crashed twice ({how})")


def run_here(videos: Sequence[Video], work: Work, workers: int) -> Generator[Outcome]:
    """Prepare videos in processes of this machine.

    Args:
        videos: in the order in which they are begun.
        work: what workers need to know.
        workers: processes.

    Yields:
        What became of each, in the order in which they end, and before that how far it is. Leaving the loop early ends
        the workers.

    Raises:
        UserError: workers cannot start, or the machine is in the way of one.
    """
    todo, crashes = deque(videos), Crashes(work)
    (Path(work.records) / LOG).unlink(missing_ok=True)
    running: dict[int, _Worker] = {}
    idle: set[int] = set()
    busy: dict[int, Video] = {}
    stillborn = 0
    try:
        while todo or busy:
            while idle and todo:
                pid = idle.pop()
                busy[pid] = todo.popleft()
                _hand(running[pid].connection, busy[pid])
            while len(running) < min(workers, len(todo) + len(busy)):
                worker = _start(work)
                running[worker.process.pid or 0] = worker
            for pid in _stirring(running):
                message = _receive(running[pid].connection)
                if isinstance(message, Outcome):
                    if message.state == BROKEN:
                        raise UserError(message.error)
                    if message.state != RUNNING:
                        del busy[pid]
                        idle.add(pid)
                    yield message
                elif message == _READY:
                    idle.add(pid)
                    stillborn = 0
                else:  # it is gone
                    worker = running.pop(pid)
                    _end(worker)
                    how = _how(worker.process.exitcode)
                    if pid in busy:
                        video = busy.pop(pid)
                        if (outcome := crashes.again(video, how)) is None:
                            todo.append(video)
                        else:
                            yield outcome
                    elif pid not in idle:
                        stillborn += 1
                        if stillborn >= STILLBORN:
                            raise UserError(
                                f"workers end before they begin ({how}): {Path(work.records) / LOG} says more; if they "
                                "lack memory, take fewer with --workers"
                            )
                    idle.discard(pid)
    finally:
        for worker in running.values():
            _end(worker)


@contextmanager
def inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """Let processes that start inside have these variables; libraries read them as they are imported."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _stirring(running: dict[int, _Worker]) -> list[int]:
    """The workers that have something to say, or are gone."""
    by_handle: dict[Any, int] = {}
    for pid, worker in running.items():
        by_handle[worker.connection] = pid
        by_handle[worker.process.sentinel] = pid
    return sorted({by_handle[handle] for handle in wait(list(by_handle))})


def _receive(connection: Any) -> Any:
    """The next message; None where there will be none."""
    try:
        return connection.recv() if connection.poll() else None
    except (EOFError, OSError):
        return None


def _hand(connection: Any, video: Video) -> None:
    with suppress(OSError):  # a worker that is gone is noticed where it is waited for
        connection.send(video)


def _start(work: Work) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    with inherited(ENVIRONMENT):
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _how(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            return f"{name}, as where memory runs out" if name == "SIGKILL" else name
    return f"exit code {code}"


def _serve(connection: Any, work: Work) -> None:
    """A worker's life: videos in, outcomes out."""
    _speak_into(Path(work.records) / LOG)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends its workers
    threading.Thread(target=_end_with_driver, daemon=True).start()
    try:
        with opened(work, connection.send) as prepare:
            connection.send(_READY)
            while True:
                connection.send(prepare(connection.recv()))
    except UserError as error:
        connection.send(Outcome(Video("", "", 0), BROKEN, reason(error)))
    except (EOFError, OSError):
        return


def _speak_into(path: Path) -> None:
    """Lead both streams, those of native code too, away from the driver's line of progress."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    wait([driver.sentinel])
    os._exit(1)
