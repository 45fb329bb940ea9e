"""The training door: `vasa-train CONFIG --workdir DIR [--steps N] [--seed S] [--any.config-field VALUE ...]`.

CONFIG comes first: the name of a file of `configs/` (`demo_autoencoder`), which the package brings with it, or the path
of any such file. Every field of the experiment that it returns can be overlaid by a flag (`--help` lists them).
`--data.path FOLDER`, or `--data.mix FOLDER WEIGHT FOLDER WEIGHT`, trains on clips that are there, in place of those
that the config makes. The same command goes on
where an interrupted run stopped; `--resume` and `--init-from` start from another run or a release (see
`vasa_jax.training.start`). `--distributed` joins a cluster.
`--dry-run` builds everything abstractly and prints sizes.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from vasa_jax import command
from vasa_jax.config import load, names
from vasa_jax.doors.flags import read_flags
from vasa_jax.errors import UserError, check_devices
from vasa_jax.files import check_local, make_folder

USAGE = "usage: train CONFIG --workdir DIR [--steps N] [--seed S] [--dry-run]; CONFIG --help lists every flag"


def parse(arguments: list[str]) -> Any:
    """The flags on top of the config: a value with the fields experiment, workdir, dry_run and time_limit.

    Raises UserError where no config is named, and for a flag that is unknown, of the wrong type, or would not be used.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UserError(f"{USAGE}; CONFIG is a Python file or one of {', '.join(names())}")
    from vasa_jax.training.start import Start

    default, given = load(arguments[0]), _flags(arguments[1:])
    _refuse_idle(default, given)
    path, named = [], given & {"--data.path", "--data.mix"}
    if named and getattr(default, "data", None) is not None:
        default = _with_records(default, named)
    elif _makes_clips(default):  # for --help alone
        help_path, help_mix = "folder of clips; then none are made", "several of them, and the weight of each"
        path = [
            ("path", Annotated[str, tyro.conf.arg(name="data.path", help=help_path)], ""),
            ("mix", Annotated[tuple[tuple[str, float], ...], tyro.conf.arg(name="data.mix", help=help_mix)], ()),
        ]
    run = dataclasses.make_dataclass(
        "Run",
        [
            ("experiment", Annotated[type(default), tyro.conf.arg(name="")], dataclasses.field(default=default)),
            *path,
            ("workdir", Annotated[str, tyro.conf.arg(help="folder of the run: data, checkpoints, logs")], ""),
            ("dry_run", Annotated[bool, tyro.conf.arg(help="print sizes and train nothing")], False),
            ("time_limit", Annotated[float, tyro.conf.arg(help="seconds; then stop with a checkpoint")], float("inf")),
            ("start", Annotated[Start, tyro.conf.arg(name="")], Start()),
            (
                "profile_steps",
                Annotated[
                    tuple[int, ...], tyro.conf.arg(help="steps, from 1, whose work is traced to WORKDIR/profile")
                ],
                (),
            ),
            ("wandb", Annotated[str, tyro.conf.arg(help="project of Weights & Biases to log to as well")], ""),
            ("distributed", Annotated[bool, tyro.conf.arg(help="join the cluster that JAX finds")], False),
            (
                "coordinator",
                Annotated[str, tyro.conf.arg(help="HOST:PORT of process 0, to join a cluster by hand")],
                "",
            ),
            ("processes", Annotated[int, tyro.conf.arg(help="of the cluster, with --coordinator")], 0),
            ("process", Annotated[int, tyro.conf.arg(help="number of this one, from 0, with --coordinator")], -1),
        ],
        frozen=True,
    )
    return read_flags(run, f"train {arguments[0]}", arguments[1:], config=(tyro.conf.AvoidSubcommands,))


def _makes_clips(experiment: Any) -> bool:
    """Whether the clips of an experiment are made, and so may be replaced by some that are there."""
    from vasa_jax.training.config import World

    return isinstance(getattr(experiment, "data", None), World)


def _with_records(experiment: Any, named: set[str]) -> Any:
    """The experiment on records whose folders the flags in `named` are going to name, read as its clips would be."""
    from vasa_jax.training.config import Reading, Records

    reading = {field.name: getattr(experiment.data, field.name) for field in dataclasses.fields(Reading)}
    data = Records(path="FOLDER", **reading) if "--data.path" in named else Records(mix=(("FOLDER", 1.0),), **reading)
    return dataclasses.replace(experiment, data=data)


def _flags(arguments: list[str]) -> set[str]:
    """The flags among arguments, spelled as `--data.make-in`."""
    return {argument.split("=")[0].replace("_", "-") for argument in arguments if argument.startswith("--")}


def _refuse_idle(experiment: Any, given: set[str]) -> None:
    """Raise UserError for a flag that would be taken and not be used."""
    from vasa_jax.training.config import Reading

    if "--model.dtype" in given:
        raise UserError("--model.dtype is not for training; choose the dtype of computation with --dtype")
    named = "--data.path" if "--data.path" in given else "--data.mix"
    if named not in given or not _makes_clips(experiment):
        return
    read = {field.name for field in dataclasses.fields(Reading)}
    for field in dataclasses.fields(experiment.data):
        flag = f"--data.{field.name.replace('_', '-')}"
        if field.name not in read and flag in given:
            raise UserError(f"{flag} says which clips are made, and with {named} none are: leave one of them out")


def work(arguments: list[str]) -> Iterator[str]:
    """Do what the flags say, with lines for the user; raises UserError for bad input and `SystemExit` of 1 for a run
    that broke."""
    run = parse(arguments)
    if run.dry_run:
        from vasa_jax.training.describe import describe

        yield describe(run.experiment)
        return
    if not run.workdir:
        raise UserError("workdir is empty: name a folder for the run with --workdir")
    if not run.time_limit > 0:
        raise UserError(f"time_limit={run.time_limit} must be above 0 seconds")
    if run.processes < 0 or run.process < -1:
        raise UserError(f"{run.processes=} and {run.process=} must be 0 or more")
    from vasa_jax.compile_cache import keep_compiled
    from vasa_jax.training import cluster
    from vasa_jax.training.goodput import describe as describe_goodput
    from vasa_jax.training.hearing import with_speech
    from vasa_jax.training.helper_networks import with_helpers
    from vasa_jax.training.logs import NonFiniteError
    from vasa_jax.training.loop import train
    from vasa_jax.training.start import with_stage_1
    from vasa_jax.training.tasks import make_task

    check_places(run)
    if run.distributed or run.coordinator or run.processes or run.process >= 0:
        cluster.join(run.coordinator, run.processes, run.process)
    check_devices()
    keep_compiled(Path(run.workdir) / "compiled")  # a run that goes on need not compile again
    experiment = with_helpers(with_speech(with_stage_1(run.experiment, run.start)))
    try:
        result = train(
            experiment,
            make_task(experiment),
            run.workdir,
            run.start,
            run.time_limit,
            wandb=run.wandb,
            profile=run.profile_steps,
        )
    except NonFiniteError as error:
        print(f"train: stopped: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    finally:
        cluster.leave()
    if result.stopped:
        yield f"stopped early ({result.stopped}); the same command goes on from here"
    yield (
        f"step {result.step}, {result.seconds:.1f} s, {result.samples_per_second:.2f} samples/s, "
        f"parameters sha256 {result.digest}; {describe_goodput(result.goodput)}"
    )


def check_places(run: Any) -> None:
    """Refuse, before any work, a workdir that takes no files and URLs in place of paths."""
    for name, path in (
        ("--resume", run.start.resume),
        ("--init-from", run.start.init_from),
        ("--autoencoder", getattr(run.experiment, "autoencoder", "")),
        *(("--data.path", folder) for folder, _ in getattr(run.experiment.data, "folders", ())),
        ("--data.make-in", getattr(run.experiment.data, "make_in", "")),
        *((f"--helpers.{part}.weights", helper.weights) for part, helper in _helpers(run.experiment).items()),
    ):
        check_local(name, path)
    make_folder("--workdir", run.workdir)


def _helpers(experiment: Any) -> dict[str, Any]:
    """The frozen networks that an experiment names, by part."""
    return experiment.helpers.named if hasattr(experiment, "helpers") else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the door; the exit code is 0 for a complete or cleanly stopped run, 1 for a broken one, 2 for bad input."""
    try:
        return command.run("train", lambda: work(sys.argv[1:] if arguments is None else list(arguments)))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
