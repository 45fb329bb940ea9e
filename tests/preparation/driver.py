"""A job on pretended videos: `python -m tests.preparation.driver VIDEOS RECORDS [workers] [largest file]`."""

import contextlib
import signal
import sys
from pathlib import Path

from tests.full_disk import full_disk
from tests.preparation import fakes
from vasa_jax.command import run
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.job import Effort, Folder, prepare


def work(videos, records, workers="2", most_bytes=""):
    effort = Effort(workers=int(workers))
    with full_disk(int(most_bytes)) if most_bytes else contextlib.nullcontext():
        yield from prepare(
            [Path(videos)], records, PreparationConfig(), Folder(), effort, fakes.candidates, fakes.open_helpers
        )


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests may ignore it
    sys.exit(run("prepare", lambda: work(*sys.argv[1:])))
