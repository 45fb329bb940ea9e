"""Goodput: what a run's time went into, over all its starts.

Useful is the time that nothing else has a claim to: the steps. What a killed run had done after its last checkpoint is
done again, so that time is lost. The totals of earlier starts are in the log, whose lines of scalars carry them.
"""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

KINDS = {
    "useful": "steps",
    "starting": "data made and checkpoints read before the first step",
    "compiling": "the step, until it can run",
    "waiting": "for batches",
    "evaluating": "evaluations, pictures and videos",
    "saving": "checkpoints and releases",
    "lost": "to restarts: what is done again after them",
}
"""Where time goes."""


class Goodput:
    """Seconds of a run by kind."""

    def __init__(self, earlier: Iterable[str] = (), first: int = 0):
        """`earlier`: lines of the log of former starts; `first`: the step that this start goes on from."""
        rows = [row for row in map(_read, earlier) if row is not None]
        kept = ([row for row in rows if row["step"] <= first] or [{}])[-1]
        before, end = (_seconds(row) for row in (kept, rows[-1] if rows else {}))
        self._seconds = before | {"lost": before["lost"] + sum(end.values()) - sum(before.values())}
        self._since = time.monotonic()

    def add(self, kind: str, seconds: float) -> None:
        """Count seconds that have passed before this was made."""
        self._seconds[kind] += seconds

    @contextmanager
    def spent(self, kind: str) -> Iterator[None]:
        """Time inside is of a kind; not to be nested."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds[kind] += time.monotonic() - begun
            self._since += time.monotonic() - begun

    def totals(self, waited: float) -> dict[str, float]:
        """Seconds by kind so far, over all starts; `waited`: for data since this start."""
        stepping = max(time.monotonic() - self._since - waited, 0.0)
        now = {"useful": stepping, "waiting": waited}
        return {kind: seconds + now.get(kind, 0.0) for kind, seconds in self._seconds.items()}


def describe(totals: dict[str, float]) -> str:
    """A line for people: the useful share, and what took more than a thousandth of the rest."""
    total = max(sum(totals.values()), 1e-9)
    shares = [f"{kind} {seconds / total:.1%}" for kind, seconds in totals.items() if seconds >= 1e-3 * total]
    return f"goodput over {total / 3600:.2f} h: {', '.join(shares)}"


def _seconds(row: dict[str, Any]) -> dict[str, float]:
    return {kind: float(row.get(f"goodput/{kind}") or 0.0) for kind in KINDS}


def _read(line: str) -> dict[str, Any] | None:
    """A line of scalars of the log, or None for any other."""
    try:
        row = json.loads(line)
    except ValueError:  # half a line, where a run was killed
        return None
    return row if isinstance(row, dict) and "step" in row and "goodput/useful" in row else None
