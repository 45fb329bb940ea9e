"""What the package's commands (`python -m vasa_jax....`) share: bad input ends in one line and exit code 2."""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser of flags whose complaints are ValueErrors of one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError."""
        raise ValueError(f"{message}; see --help")


def run(name: str, work: Callable[[], Iterable[str]]) -> int:
    """Do the work of a command and print its lines as they come.

    Args:
        name: of the command, for its complaints.
        work: gives the lines for the user; raises ValueError or OSError for bad input.

    Returns:
        The exit code: 0, or 2 after one line on stderr.
    """
    try:
        for line in work():
            sys.stdout.write(f"{line}\n")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{name}: error: {' '.join(str(error).split())}\n")
        return 2
    return 0
