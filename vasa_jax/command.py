"""What all commands share: bad input ends in one line and exit code 2, a signal to end in one and 130, and the report
never spoils the work.

Services and schedulers start programs without standard streams, and readers of a pipe leave early. Neither has to do
with what a command is for, so a stream that is missing or broken swallows what it is told.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from vasa_jax.errors import UserError, lacking_memory, reason

LONGEST = 900
"""Letters of the longest complaint; of a longer one, which repeats what it was given, the middle is left out."""
INTERRUPTED = 130
"""Exit code after Ctrl-C or a signal to end, as shells count."""
STOPPED: list[int] = []
"""Signals that have asked the command that runs to end."""
LESS_MEMORY = "end what else runs there, or ask for less at once"
"""What to do where memory runs out, and nobody nearer knows a flag."""


class Parser(argparse.ArgumentParser):
    """A parser of flags whose complaints are UserErrors of one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message}; see --help")


def run(name: str, work: Callable[[], Iterable[str]]) -> int:
    """Do the work of a command and print its lines as they come.

    Args:
        name: of the command, for its complaints.
        work: gives the lines for the user; raises UserError for what the user can mend. Other exceptions are bugs and
            keep their traceback.

    Returns:
        The exit code: 0; 2 after one line on stderr, where memory ran out too; 130 where it was interrupted.
    """
    with patient_streams(), _remarks(name):
        try:
            with ended_by_signals():
                for line in work():
                    sys.stdout.write(f"{line}\n")
                    sys.stdout.flush()
        except UserError as error:
            sys.stderr.write(f"{name}: error: {_shortened(reason(error))}\n")
            return 2
        except (MemoryError, RuntimeError) as error:
            if not (lacking := lacking_memory(error)):
                raise
            sys.stderr.write(f"{name}: error: {lacking}; {LESS_MEMORY}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write(f"{name}: interrupted; nothing half-written was left\n")
            return INTERRUPTED
    return 0


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: 2 * LONGEST // 3]} ... {line[-LONGEST // 3 :]}"


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """End what is inside as by Ctrl-C at SIGINT and SIGTERM, so that a killed command removes what it had begun.

    Python drops an exception that strikes inside a callback of its garbage collector (JAX has one), and shows its
    traceback. So the signal is remembered too, in `STOPPED`, work that goes on for long asks `check_stopped` now and
    then, and the traceback is not shown. Libraries turn it into errors of their own (asyncio and TensorStore do), so
    what fails after a signal is taken to fail by it.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are not ours to catch
        yield
        return

    def stop(number: int, frame: object) -> None:
        STOPPED.append(number)
        raise KeyboardInterrupt

    def hook(told: Any) -> None:
        if not isinstance(told.exc_value, KeyboardInterrupt):
            shown(told)

    shown, sys.unraisablehook = sys.unraisablehook, hook
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception as error:
        check_stopped(error)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if sys.unraisablehook is hook:
            sys.unraisablehook = shown
        STOPPED.clear()


def check_stopped(error: BaseException | None = None) -> None:
    """Raise KeyboardInterrupt, from `error` if there is one, where a signal has asked the command to end."""
    if STOPPED:
        raise KeyboardInterrupt from error


@contextlib.contextmanager
def _remarks(name: str) -> Iterator[None]:
    """Let what the package has to remark inside reach standard error, a line each."""
    logger, handler = logging.getLogger("vasa_jax"), _Remarks()
    handler.setFormatter(logging.Formatter(f"{name}: %(message)s"))
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


class _Remarks(logging.Handler):
    """Writes to what standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        sys.stderr.write(f"{self.format(record)}\n")


@contextlib.contextmanager
def patient_streams() -> Iterator[None]:
    """Let writing to standard output and standard error inside never fail."""
    for number in range(3):  # a file that is opened must not become a standard stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Patient(stream or open(os.devnull, "w")) for stream in before)  # noqa: SIM115
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Patient:
    """A text stream that goes silent where writing to it fails."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or do as if."""
        try:
            return self._stream.write(text)
        except OSError:
            self._silence()
            return len(text)

    def flush(self) -> None:
        """Flush, or do as if."""
        try:
            self._stream.flush()
        except OSError:
            self._silence()

    def _silence(self) -> None:
        """Lead the descriptor elsewhere, so that what is left in buffers fails no more, at exit neither."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
