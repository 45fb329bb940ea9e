"""The door of preparation: `vasa-prepare VIDEOS... RECORDS [--workers N] [--ray ADDRESS] [--any-threshold VALUE ...]`.

VIDEOS are folders, searched to the bottom, or files; RECORDS is the folder that `vasa-train --data.path` takes. Every
threshold is a flag, which `--help` lists with its default and its reason. The same command goes on where an interrupted
run stopped. `vasa-prepare report RECORDS` writes the report of a folder anew.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import tyro

from vasa_jax import command
from vasa_jax.doors.flags import read_flags
from vasa_jax.errors import UserError
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.job import Effort, Folder, prepare, report

REPORT = "report"


@dataclasses.dataclass(frozen=True)
class Flags:
    """Videos in, records for training out; the people in the videos must have agreed to that."""

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS... RECORDS")]
    """folders or files of videos, and last the folder to write"""
    config: Annotated[PreparationConfig, tyro.conf.arg(name="")] = PreparationConfig()
    folder: Annotated[Folder, tyro.conf.arg(name="")] = Folder()
    effort: Annotated[Effort, tyro.conf.arg(name="")] = Effort()


def work(arguments: Sequence[str]) -> Iterator[str]:
    """Do what the flags say, with lines for the user; raises UserError for bad input."""
    if arguments[:1] == [REPORT]:
        if len(arguments) != 2 or arguments[1].startswith("-"):
            raise UserError("usage: report RECORDS; a folder of videos that is called report is ./report")
        yield from report(arguments[1])
        return
    flags = read_flags(Flags, "vasa-prepare", arguments)
    if len(flags.paths) < 2:
        raise UserError("name VIDEOS and RECORDS: a folder of videos, and the folder to write; see --help")
    yield from prepare(flags.paths[:-1], flags.paths[-1], flags.config, flags.folder, flags.effort)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 after one line on stderr, 130 where it was interrupted."""
    return command.run("prepare", lambda: work(sys.argv[1:] if arguments is None else list(arguments)))
