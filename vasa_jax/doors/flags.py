"""How both doors read their flags: dataclasses in, complaints of one line out."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from vasa_jax.errors import UserError

T = TypeVar("T")


def read_flags(kind: type[T], prog: str, arguments: Sequence[str], **settings: Any) -> T:
    """Reads flags as a dataclass; --help prints and exits with 0.

    Args:
        kind: the dataclass.
        prog: name of the command, for --help.
        arguments: the flags.
        settings: more of `tyro.cli`'s.

    Raises:
        UserError: tyro's complaint on one line.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, prog=prog, args=list(arguments), **settings)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│| ") for line in complaint.getvalue().splitlines()[1:]]
        if lines and lines[0].startswith("---"):  # a frame of plain letters, where the terminal knows no others
            del lines[0]
        end = next((i for i, line in enumerate(lines) if line.startswith(("─", "╰", "---"))), len(lines))
        raise UserError(f"{' '.join(lines[:end])}; see --help") from None
