"""A disk that takes no more: a limit on the size of files stands for it. Python ignores its signal; writing fails."""

import contextlib
import os
import resource
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def full_disk(most: int) -> Iterator[None]:
    """Files get `most` bytes at most, in this process and in those that it starts.

    None of them keeps what it compiles of Python: the half of a module would be left for everybody.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept, told = sys.dont_write_bytecode, os.environ.get("PYTHONDONTWRITEBYTECODE", "")
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = kept, told
