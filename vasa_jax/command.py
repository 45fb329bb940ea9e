"""What all commands share: bad input ends in one line and exit code 2, and the report never spoils the work.

Services and schedulers start programs without standard streams, and readers of a pipe leave early. Neither has to do
with what a command is for, so a stream that is missing or broken swallows what it is told.
"""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from vasa_jax.errors import UserError, reason

LONGEST = 900
"""Letters of the longest complaint; of a longer one, which repeats what it was given, the middle is left out."""
INTERRUPTED = 130
"""Exit code after Ctrl-C or a signal to end, as shells count."""


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
        The exit code: 0; 2 after one line on stderr; 130 where it was interrupted.
    """
    with patient_streams(), _remarks(name):
        try:
            for line in work():
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
        except UserError as error:
            sys.stderr.write(f"{name}: error: {_shortened(reason(error))}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write(f"{name}: interrupted; nothing half-written was left\n")
            return INTERRUPTED
    return 0


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: 2 * LONGEST // 3]} ... {line[-LONGEST // 3 :]}"


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
