"""The door of the judges: `python -m vasa_jax.metrics evaluate RUN|RELEASE [--quick] [--only JUDGE ...] [--json OUT]`.

RUN is the workdir of a stage 1 or a stage 2 run, whose averaged parameters are judged; RELEASE a folder, or the name of
a model that comes with the package. Stage 2 is judged with the stage 1 that it was trained on. Every number stands
beside the same number on true clips of the world, with its 95 % interval; `--png` draws the one over the other.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vasa_jax.checkpoint import bundled_releases, is_run, load_release
from vasa_jax.command import Parser, run
from vasa_jax.errors import UserError, check_devices
from vasa_jax.files import check_apart, check_target
from vasa_jax.inference import vasa
from vasa_jax.inference.load import load
from vasa_jax.inference.offline import Model
from vasa_jax.metrics import landmarks, probe
from vasa_jax.metrics.judges.evidence import QUICK, MotionEvidence, Setting
from vasa_jax.metrics.judges.motion import MOTION_JUDGES
from vasa_jax.metrics.judges.portraits import FACE_JUDGES, FaceEvidence
from vasa_jax.metrics.judges.protocol import Judge, Row, ask, select
from vasa_jax.metrics.judges.report import score_table, table, write_json, write_picture
from vasa_jax.metrics.judges.theval import scores
from vasa_jax.metrics.transfer import Face, network_face
from vasa_jax.motion.statistics import Statistics
from vasa_jax.pretrained.helper import load_helper
from vasa_jax.training.bundles import read_bundle
from vasa_jax.training.config import MotionExperiment, from_saved
from vasa_jax.training.hearing import load_speech
from vasa_jax.training.stage_1 import load_autoencoder, load_stage_1

PROBE = "~/.cache/vasa-jax/probe"
"""Where the probe that reads mouths in frames is kept."""
FEATURES = "world_features"
"""The helper that tells people apart."""
QUICK_PEOPLE = 16


class Judged(NamedTuple):
    """What a source holds. model: both stages. face: stage 1 as functions, and the side of its pictures in pixels."""

    model: Model | None
    face: tuple[Face, int] | None


def open_source(source: str) -> Judged:
    """What is judged of a run or a release.

    Raises:
        UserError: for a folder that is neither, or one that is not whole.
    """
    if is_run(source):
        _, saved, state = read_bundle(source)
        experiment = from_saved(saved, source)
        if isinstance(experiment, MotionExperiment):
            stage_1, constants = load_stage_1(experiment.autoencoder), Statistics(**state["constants"])
            speech = load_speech(experiment.model.audio)
            return Judged(Model(stage_1.join(experiment.model, state["ema"], constants, speech)), None)
    elif not os.path.isdir(source) and source not in bundled_releases(vasa.KIND):
        raise UserError(
            f"there is no run and no release {source!r}; name a workdir, a folder, or one of "
            f"{', '.join(bundled_releases(vasa.KIND))}"
        )
    else:
        config = load_release(source).config
        if config["kind"] != vasa.KIND:
            raise UserError(f"{source} is of kind {config['kind']!r}; judges know models of kind {vasa.KIND!r}")
        if "motion" in config:
            model = load(source)
            return Judged(model, (network_face(model.face.config, model.face.params), model.size))
    config, params = load_autoencoder(source)
    return Judged(None, (network_face(config, params), config.image_size))


def evaluate(
    judged: Judged,
    setting: Setting,
    people: int,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    cache: str | Path = PROBE,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Row]:
    """The rows of all judges that know what is judged.

    Args:
        judged: see `open_source`.
        setting: how much evidence about stage 2 is made.
        people: how many stage 1 is shown.
        only: names of judges; none means all.
        without: kinds of evidence that are not to be made.
        cache: folder that keeps the probe.
        say: told what is under way.

    Raises:
        UserError: for a judge that there is not, or that does not know this model.
    """
    known = (*(MOTION_JUDGES if judged.model else ()), *(FACE_JUDGES if judged.face else ()))
    for name in only:
        if name not in {judge.name for judge in known} and name in {one.name for one in MOTION_JUDGES + FACE_JUDGES}:
            raise UserError(f"the judge {name!r} has nothing to judge here; choose among {_listed(known)}")
    asked = select(known, only, without)
    if judged.model and (of_motion := [judge for judge in asked if judge in MOTION_JUDGES]):
        read = partial(_probe, judged.model.size, Path(cache).expanduser())
        yield from ask(of_motion, MotionEvidence(judged.model, setting, read, _landmarker(), say))
    if judged.face and (of_faces := [judge for judge in asked if judge in FACE_JUDGES]):
        helper = load_helper(FEATURES)[:2] if FEATURES in bundled_releases() else None
        if helper is None:
            lost = [judge for judge in of_faces if judge.needs == "likenesses"]
            of_faces = [judge for judge in of_faces if judge not in lost]
            for judge in lost:
                say(f"{judge.name} was not judged: there is no helper {FEATURES!r}")
        yield from ask(of_faces, FaceEvidence(*judged.face, people, helper, say))


def _probe(size: int, folder: Path) -> Callable[[Any], probe.Reading]:
    config = probe.ProbeConfig(size=size, crop=max(8, round(0.75 * size)))
    return partial(probe.read, config, probe.load_or_train(folder, config))


def _landmarker() -> Path | None:
    assets = os.environ.get("VASA_JAX_ASSETS")
    return None if landmarks.why_unavailable(assets) else Path(str(assets)) / landmarks.MODEL_FILE


def _listed(judges: Sequence[Judge]) -> str:
    return ", ".join(judge.name for judge in judges)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read and check the flags; UserError for what cannot be done."""
    parser = Parser(prog="python -m vasa_jax.metrics", description="Judge a model, beside true clips of the world.")
    about = "\n".join(f"  {judge.name:<12} {judge.about}" for judge in MOTION_JUDGES + FACE_JUDGES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="evaluate", parser_class=Parser)
    command = commands.add_parser(
        "evaluate", help="judge a run or a release", epilog=f"judges:\n{about}", formatter_class=_Raw
    )
    command.add_argument("source", help="workdir of a run, folder of a release, or a bundled name as demo")
    command.add_argument("--quick", action="store_true", help="less evidence, 10 sampler steps, no rendered clips")
    command.add_argument("--only", nargs="+", default=[], metavar="JUDGE", help="ask these judges alone")
    command.add_argument("--clips", type=int, help=f"performances of stage 2 (default {Setting.clips})")
    command.add_argument("--voices", type=int, help=f"with which controls are asked (default {Setting.voices})")
    command.add_argument("--minutes", type=int, help=f"of drift (default {Setting.minutes})")
    command.add_argument("--people", type=int, help="that stage 1 is shown (default 32)")
    command.add_argument("--steps", type=int, help="of the sampler (default the model's own)")
    command.add_argument("--seed", type=int, help="of the generated motion (default 0)")
    command.add_argument("--cache", default=PROBE, help="folder that keeps the probe of frames (default %(default)s)")
    command.add_argument("--json", type=Path, help="also write everything here")
    command.add_argument("--png", type=Path, help="also draw values over truth here")
    options = parser.parse_args(arguments)
    targets = {f"--{name}": path for name in ("json", "png") if (path := getattr(options, name)) is not None}
    check_apart(targets, {})
    for path in targets.values():
        check_target(path)
    if options.people is not None and options.people < 2:
        raise UserError(f"--people {options.people} must be 2 or more: identities are compared")
    given = {name: getattr(options, name) for name in ("clips", "voices", "minutes", "steps", "seed")}
    base = QUICK if options.quick else Setting()
    options.setting = dataclasses.replace(base, **{name: value for name, value in given.items() if value is not None})
    options.people = options.people or (QUICK_PEOPLE if options.quick else 32)
    return options


class _Raw(argparse.RawDescriptionHelpFormatter):
    """Keeps the list of judges as it is."""


def work(options: argparse.Namespace) -> Iterator[str]:
    """Judge, with the table line by line when all is known."""
    check_devices()
    without = ("readings",) if options.quick and not options.only else ()
    judged = open_source(options.source)
    found = evaluate(judged, options.setting, options.people, options.only, without, options.cache, _say)
    rows = list(found)
    judgement = scores(rows)
    yield from table(rows)
    yield from score_table(judgement)
    about = {"source": options.source, "setting": dataclasses.asdict(options.setting), "people": options.people}
    if options.json is not None:
        write_json(options.json, about, rows, judgement)
        yield f"wrote {options.json}"
    if options.png is not None:
        write_picture(options.png, f"{options.source}: values over those of true clips", rows)
        yield f"wrote {options.png}"


def _say(line: str) -> None:
    sys.stderr.write(f"{line} ...\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    return run("evaluate", lambda: work(parse(sys.argv[1:] if arguments is None else arguments)))
