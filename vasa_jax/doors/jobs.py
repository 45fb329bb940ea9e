"""Many jobs from one list file, in one process that loads each model once.

The file is a table (CSV) whose first row names flags, without their dashes; an empty field leaves a flag at what the
command line says. A job whose output is there already is skipped, so a list can be run again until all is done.
"""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vasa_jax.errors import UserError, printable, reason, refusals

SWITCHES = ("square", "parity")
"""Flags without a value."""
ALONE = ("jobs", "platform", "sign_with", "tsa")
"""Flags that hold for all jobs."""


def do_jobs(path: str, arguments: Sequence[str], perform: Callable[[list[str]], str]) -> Iterator[str]:
    """Does the jobs of a list one after the other, and tells of each in a line, and of all in a table at the end.

    Args:
        path: of the list.
        arguments: of the command line, `--jobs` included; a row's come after them and win.
        perform: does one job by its arguments; raises UserError where it cannot be done.

    Raises:
        UserError: a list that cannot be read or asks for one output twice; or, after all others are done, jobs that
            could not be.
    """
    rows = read_jobs(path)
    common = _without_jobs(arguments)
    states = []
    for number, row in enumerate(rows, 1):
        if (out := row.get("out")) and _is_there(out):
            states.append((number, out, "skipped: it is there"))
            continue
        flags = [part for name, value in row.items() for part in _flag(name, value)]
        try:
            yield perform([*common, *flags])
            states.append((number, out or "", "done"))
        except UserError as error:
            states.append((number, out or "", f"failed: {reason(error)}"))
    states = [(number, printable(out), state) for number, out, state in states]
    width = max(len(out) for _, out, _ in states)
    yield from (f"{number:>4}  {out:<{width}}  {state}" for number, out, state in states)
    if failed := sum(state.startswith("failed") for _, _, state in states):
        raise UserError(f"{failed} of {len(states)} jobs of {path} failed; mend their rows and run it again")


def read_jobs(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a list, name of a flag to what it is set to.

    Raises:
        UserError: a file that cannot be read, without rows, whose rows are longer than the first one, or where two rows
            write one output.
    """
    try:
        with refusals("read", path), Path(path).open(newline="", encoding="utf-8-sig") as file:
            table = [row for row in csv.reader(file) if any(field.strip() for field in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a table of jobs (CSV in UTF-8): {reason(error)}") from error
    if any("\0" in field for row in table for field in row):
        raise UserError(f"{path} is not a table of jobs (CSV in UTF-8): it holds zero bytes")
    if len(table) < 2:
        raise UserError(f"{path} holds no jobs: its first row names flags (image,audio,out), each further row is a job")
    names = [name.strip().lstrip("-").replace("-", "_") for name in table[0]]
    if "out" not in names or (odd := [name for name in names if not name or name in ALONE or names.count(name) > 1]):
        why = "there is no column out" if "out" not in names else f"the column {odd[0]!r} cannot be used"
        raise UserError(f"the first row of {path} does not name a job's flags: {why}")
    rows, outputs = [], {}
    for number, fields in enumerate(table[1:], 1):
        if len(fields) > len(names):
            raise UserError(f"job {number} of {path} has {len(fields)} fields, its first row {len(names)}")
        row = {name: field.strip() for name, field in zip(names, fields, strict=False) if field.strip()}
        if (out := row.get("out")) is not None and outputs.setdefault(os.path.abspath(out), number) != number:
            raise UserError(f"jobs {outputs[os.path.abspath(out)]} and {number} of {path} both write {out}")
        rows.append(row)
    return rows


def _flag(name: str, value: str) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if name in SWITCHES:
        return [flag if value.lower() in ("1", "true", "yes") else f"--no-{name}"]
    return [f"{flag}={value}"]  # in one, since a value may look like a flag


def _without_jobs(arguments: Sequence[str]) -> list[str]:
    kept = list(arguments)
    while "--jobs" in kept:
        at = kept.index("--jobs")
        del kept[at : at + 2]
    return [part for part in kept if not part.startswith("--jobs=")]


def _is_there(out: str) -> bool:
    return os.path.isfile(out) or (os.path.isdir(out) and any(Path(out).iterdir()))
