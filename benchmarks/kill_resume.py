"""Does a killed run end where an uninterrupted one does, bit for bit?

    python -m benchmarks.kill_resume [--kills 20] [--steps 40] [--parallel jit] [--writer 4.0]

A small stage 2 run of the synthetic world, started through `train.py`, is killed with SIGKILL at moments spread evenly
over its whole life (start, compilation, steps, checkpoint writes), each time in a new workdir with a cold compilation
cache, and then started again with the same command. All arrays of its last checkpoint (parameters, average, moments)
must equal those of a run that was never killed. The writer of checkpoints is slowed down, so that at least a third of
the kills fall into a write. Exit code 1 if any array differs, or fewer than a third do.
"""

import argparse
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from benchmarks import timing
from vasa_jax.checkpoint import digest
from vasa_jax.doors import train
from vasa_jax.training.bundles import read_bundle

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "--model.width=16 --model.num-layers=1 --model.num-heads=2 --model.ffn=16 --model.audio.feature-dim=8 "
    "--batch-size=8 --optimiser.warmup=5 --data.clips=8 --data.validation-clips=1 --data.clips-per-shard=4 "
    "--log-every=1 --save-every=4 --eval-every=1000000 --pictures-every=1000000"
).split()
"""What makes the demo's stage 2 a matter of seconds."""


class Kill(NamedTuple):
    """One kill. seconds: after the start; inf is none. step: last one logged by then. saving: whether a checkpoint was
    being written. complete: checkpoints that were whole. digest: of the state after going on to the end."""

    seconds: float
    step: int
    saving: bool
    complete: tuple[int, ...]
    digest: str


def command(workdir: Path, data: Path, steps: int, parallel: str, writer: float) -> list[str]:
    """The run, as a command of this file: `train.py` with a writer that takes `writer` seconds more."""
    flags = [*SMALL, f"--steps={steps}", f"--parallel={parallel}", f"--data.make-in={data}", f"--workdir={workdir}"]
    autoencoder = f"--autoencoder={ROOT / 'vasa_jax' / 'models' / 'demo'}"
    door = [str(ROOT / "configs" / "demo_motion.py"), *flags, autoencoder]
    return [sys.executable, "-m", "benchmarks.kill_resume", "--child", str(writer), *door]


def run(arguments: Sequence[str], seconds: float = float("inf")) -> float:
    """Start a command, kill it with SIGKILL after some seconds, and return how long it lived.

    Raises RuntimeError where it ends by itself with another code than 0.
    """
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=errors, stderr=errors)
        try:
            process.wait(None if seconds == float("inf") else seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if process.returncode not in (0, -signal.SIGKILL):
            errors.seek(0)
            raise RuntimeError(f"{arguments[-1]} ended with {process.returncode}: {errors.read()[-2000:]!r}")
    return time.monotonic() - began


def state_of(workdir: Path) -> str:
    """SHA-256 of all arrays of the last checkpoint."""
    return digest(read_bundle(workdir)[2])


def kill_and_resume(workdir: Path, start: Callable[[Path, float], list[str]], seconds: float, writer: float) -> Kill:
    """One trial in a new workdir; `start` makes the command from a workdir and the writer's delay."""
    run(start(workdir, writer), seconds)
    log = workdir / "log.jsonl"
    step = sum('"train/loss"' in line for line in log.read_text().splitlines()) if log.is_file() else 0
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    run(start(workdir, 0.0))
    complete = tuple(sorted(int(name) for name in names if name.isdigit()))
    return Kill(seconds, step, any("tmp" in name for name in names), complete, state_of(workdir))


def trials(folder: Path, kills: int, steps: int, parallel: str, writer: float, show: Callable[[str], None]) -> bool:
    """Kill `kills` runs under `folder`, show a table row by row, and return whether all ended alike."""

    def start(workdir: Path, delay: float) -> list[str]:
        return command(workdir, folder / "data", steps, parallel, delay)

    run(start(folder / "first", 0.0))  # makes the clips
    life = run(start(folder / "whole", writer))
    truth = state_of(folder / "whole")
    show(f"an uninterrupted run lives {life:.1f} s; its state is {truth[:16]}\n")
    show("| kill | after s | steps logged | in a write | complete checkpoints | end |")
    show("|---|---|---|---|---|---|")
    done = []
    for number in range(kills):
        seconds = life * (number + 0.5) / kills
        kill = kill_and_resume(folder / f"killed_{number}", start, seconds, writer)
        done.append(kill)
        end = "the same" if kill.digest == truth else f"DIFFERENT: {kill.digest[:16]}"
        complete = ", ".join(map(str, kill.complete)) or "-"
        show(f"| {number + 1} | {seconds:.1f} | {kill.step} | {'yes' if kill.saving else ''} | {complete} | {end} |")
    saving, different = sum(kill.saving for kill in done), sum(kill.digest != truth for kill in done)
    show(f"\n{kills} kills, {saving} in a write, {different} with another end")
    return different == 0 and 3 * saving >= kills


def slow_writer(seconds: float) -> None:
    """Make every checkpoint of this process take longer: its files lie in a temporary folder for that time."""
    original = ocp.StandardCheckpointHandler.async_save

    class Delay:
        """A write that ends late."""

        def __init__(self) -> None:
            self._ends = time.monotonic() + seconds

        def result(self, timeout: float | None = None) -> None:
            time.sleep(max(0.0, self._ends - time.monotonic()))

    @functools.wraps(original)
    async def async_save(*arguments: Any, **named: Any) -> Any:
        return [*(await original(*arguments, **named) or []), Delay()]

    ocp.StandardCheckpointHandler.async_save = async_save  # pyright: ignore[reportAttributeAccessIssue]


def main() -> int:
    """Print the table; with --child, be the run."""
    if sys.argv[1:2] == ["--child"]:
        if float(sys.argv[2]):
            slow_writer(float(sys.argv[2]))
        return train.main(sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--kills", type=timing.positive, default=20, help="trials")
    parser.add_argument("--steps", type=timing.positive, default=40, help="length of a run")
    parser.add_argument("--parallel", default="jit", choices=("jit", "pmap", "sharded"), help="strategy")
    parser.add_argument("--writer", type=float, default=4.0, help="seconds that a write takes more")
    options = parser.parse_args()
    timing.start(options)
    with tempfile.TemporaryDirectory() as folder:
        good = trials(
            Path(folder), options.kills, options.steps, options.parallel, options.writer, lambda s: print(s, flush=True)
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
