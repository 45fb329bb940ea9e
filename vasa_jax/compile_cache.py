"""Where compiled programs wait for the next start: JAX's compilation cache, with its faults mended.

JAX neither rewrites nor removes an entry that it cannot read, leaves a half-written one where the disk is full, and
reports both in warnings that quote its source at every start. Here a bad entry is removed the moment JAX stumbles over
it, so that the program that is compiled instead takes its place; and the user reads one plain line, or none.
"""

import contextlib
import glob
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import jax

from vasa_jax.errors import reason

LIMIT = 2 << 30
"""Bytes that a folder of ours may hold; what was not used for longest goes."""
SHORTEST = 0.1
"""Seconds of compiling that are worth keeping; JAX's second is longer than fast machines need."""
COMPLAINT = re.compile(r"Error (reading|writing) persistent compilation cache entry for '([^']*)': (.*)", re.DOTALL)
"""How JAX begins its warnings."""


def keep_compiled(default: str | os.PathLike) -> None:
    """Keep compiled programs for the next start, before anything is compiled.

    Args:
        default: the folder, which JAX makes ("~" is the user's home), where the user names no other for JAX
            (JAX_COMPILATION_CACHE_DIR). It is bounded by `LIMIT`; a folder of the user's is not.
    """
    named: str | None = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if named and "://" in named:  # an object store, which JAX reaches by itself
        return
    try:
        folder = Path(named or default).expanduser().absolute()
    except RuntimeError as error:  # a user without a home
        _tell(_unkept(default, reason(error)))
        return
    if not named:
        _prune(folder, LIMIT)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    _watch(folder)


def _watch(folder: Path) -> None:
    """Turn JAX's complaints about the folder into one line, and remove the entries that they are about."""
    show, told = warnings.showwarning, []
    before = {path.name for path in folder.glob("*-cache")}  # not half-written by this process

    def complain(message: Warning | str, *details: Any, **more: Any) -> None:
        found = COMPLAINT.match(str(message))
        if not found:
            show(message, *details, **more)
            return
        action, program, why = found.groups()
        damaged = action == "reading" and folder.is_dir()
        for entry in glob.glob(f"{glob.escape(program)}-*-cache", root_dir=folder):
            if damaged or entry not in before:
                with contextlib.suppress(OSError):
                    (folder / entry).unlink()
        if not told:
            told.append(program)
            _tell(f"compiled programs in {folder} were damaged and are made anew" if damaged else _unkept(folder, why))

    warnings.showwarning = complain
    warnings.filterwarnings("always", message="Error (reading|writing) persistent compilation cache entry")


def _unkept(folder: str | os.PathLike, why: str) -> str:
    return f"compiled programs cannot be kept in {folder} ({' '.join(why.split())}): every start compiles anew"


def _prune(folder: Path, limit: int) -> None:
    """Remove the entries that were not used for longest until the others hold at most `limit` bytes."""
    entries = []
    for path in folder.glob("*-cache"):
        with contextlib.suppress(OSError):
            status = path.stat()
            entries.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = 0
    for _, size, path in sorted(entries, reverse=True):
        total += size
        if total > limit:
            with contextlib.suppress(OSError):
                path.unlink()


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
