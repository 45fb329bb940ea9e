"""The free detector: `python -m vasa_jax.provenance FILE...` says what is known of videos, pictures and their folders.

Exit code 0: all are marked and intact; 1: one is not marked; 3: one was altered; 2: one cannot be examined, or bad
flags. Of several, the worst counts: 2, then 3, then 1.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vasa_jax.command import Parser, run
from vasa_jax.errors import UserError, refusals

CODES = {"marked": 0, "not marked": 1, "altered": 3}


def work(arguments: Sequence[str], verdicts: list[str]) -> Iterator[str]:
    """Examine files and tell of each; verdicts are appended to `verdicts`. Raises UserError, after all others."""
    from vasa_jax.provenance.detector import examine, files_of, sentences

    parser = Parser(
        prog="vasa-provenance", description="What files say about themselves, and whether that still holds."
    )
    parser.add_argument("file", nargs="+", type=Path, help="a video, a picture, or a folder of pictures")
    parser.add_argument("--json", action="store_true", help="an object of JSON a file, a line each")
    parser.add_argument("--trust", type=Path, help="certificates that you trust (PEM), as C2PA's trust list")
    options = parser.parse_args(arguments)
    trust = ""
    if options.trust is not None:
        with refusals("read", options.trust):
            trust = options.trust.read_text(encoding="utf-8", errors="replace")
        if "BEGIN CERTIFICATE" not in trust:
            raise UserError(f"--trust {options.trust} holds no certificates in PEM")
    refused: list[UserError] = []
    for given in options.file:
        try:
            inside = list(files_of(given))
        except UserError as error:
            refused.append(error)
            continue
        quiet, counted = given.is_dir() and not options.json, 0
        for path in inside:
            try:
                report = examine(path, trust)
            except UserError as error:
                refused.append(error)
                continue
            verdicts.append(report.verdict)
            counted += report.verdict == "marked"
            if options.json:
                yield json.dumps(dataclasses.asdict(report))
            elif not quiet or report.verdict != "marked":
                yield from sentences(report)
        if quiet:
            yield f"{given}: {counted} of {len(inside)} files are marked and intact"
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise UserError(f"{refused[0]}{more}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    verdicts: list[str] = []
    code = run("provenance", lambda: work(sys.argv[1:] if arguments is None else arguments, verdicts))
    return code or max((CODES[verdict] for verdict in verdicts), default=0)


if __name__ == "__main__":
    sys.exit(main())
