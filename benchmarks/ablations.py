"""What is each part of the recipe for? Equal runs that lack one thing each, judged on known truth.

    python -m benchmarks.ablations [--workdir runs/ablations] [--steps 400] [--minutes 60] [--only ARM ...] [--png OUT]

An arm is a training run in a workdir of its own, of `--steps` steps and at most `--minutes` of them; interrupt it
whenever you like, the same command goes on where it stopped. Every arm goes on from the released weights, for in an
hour from scratch on two cores no expression is learned that a term could keep apart; it has the same seed and clips,
and differs from the whole recipe of its stage in one thing:

stage 1   configs/demo_autoencoder_randomised.py with l_consist and the game; motion encoders are frozen
stage 2   configs/demo_motion.py on the released stage 1
sampling  a released model at the settings of VASA-1's own table; nothing is trained

`python -m vasa_jax.metrics evaluate` asks the same judges. Disentanglement is measured directly: pose, dynamics or
identity of one clip is put into another, and compared with what the world draws of exactly that combination. All arms
that the workdir holds are printed as one table, in Markdown, and drawn: blue is better than the whole recipe, red is
worse. Arms are judged on the same people, so differences have intervals of their own, far narrower than those of
values.
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from benchmarks import timing
from vasa_jax import config as configs
from vasa_jax.autoencoder.augmentation import AugmentationConfig
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig
from vasa_jax.doors.evaluate import evaluate, open_source
from vasa_jax.files import read_json, whole_file
from vasa_jax.inference.controls import DIRECTIONS
from vasa_jax.metrics.judges.evidence import DISTANCES, Setting
from vasa_jax.metrics.judges.portraits import FACTORS
from vasa_jax.metrics.judges.protocol import Row, interval
from vasa_jax.metrics.judges.report import number, write_json
from vasa_jax.training.bundles import newest_bundle
from vasa_jax.training.config import AutoencoderExperiment, HelperConfig, MotionExperiment, OptimiserConfig
from vasa_jax.training.hearing import with_speech
from vasa_jax.training.helper_networks import with_helpers
from vasa_jax.training.loop import train
from vasa_jax.training.start import Start
from vasa_jax.training.tasks import make_task

SOURCE = "demo"
"""Whose weights are gone on from."""
CLIPS = 400
"""Of the training set, of either stage."""
DEAR: Mapping[str, float] = {"consistency": 0.5, "canonical": 0.05, "adversarial": 0.01, "matching": 0.1}
"""Weights of the terms that the config leaves out for their cost."""
GAME = 0.25
"""Share of the steps after which the discriminator plays: it starts anew, releases do not hold it."""
WARMUP = 10
"""One step of this many raises the learning rate."""
JUDGED = "judged.json"


class Arm(NamedTuple):
    """stage: "stage 1", "stage 2" or "sampling". about: what is different. change: of the stage's experiment, or, of
    sampling, of the `Setting`; None trains nothing."""

    stage: str
    about: str
    change: Callable[[Any], Any] | None


def _objective(**weights: Any) -> Callable[[Any], Any]:
    return lambda whole: dataclasses.replace(whole, objective=dataclasses.replace(whole.objective, **weights))


def _without_helper(part: str, term: str) -> Callable[[Any], Any]:
    def change(whole: Any) -> Any:
        objective = dataclasses.replace(whole.objective, **{term: 0.0})
        return dataclasses.replace(
            whole, objective=objective, helpers=dataclasses.replace(whole.helpers, **{part: HelperConfig()})
        )

    return change


def _motion(**fields: Any) -> Callable[[Any], Any]:
    return lambda whole: dataclasses.replace(whole, model=dataclasses.replace(whole.model, **fields))


def _no_context_dropout(whole: Any) -> Any:
    return _motion(drop=dataclasses.replace(whole.model.drop, context=0.0))(whole)


def _sampled(steps: int, audio: float, gaze: float) -> Callable[[Any], Any]:
    return lambda setting: dataclasses.replace(setting, steps=steps, guidance=(("audio", audio), ("gaze", gaze)))


ARMS: Mapping[str, Arm] = {
    "stage-1": Arm("stage 1", "the whole recipe", lambda whole: whole),
    "released": Arm("stage 1", "the weights that all start from", None),
    "no-consist": Arm("stage 1", "without l_consist", _objective(consistency=0.0)),
    "no-cross-id": Arm("stage 1", "without l_cross_id", _without_helper("identity", "cross_identity")),
    "no-gan": Arm("stage 1", "without the discriminator", _objective(adversarial=0.0, matching=0.0)),
    "no-perceptual": Arm("stage 1", "without perceptual features", _without_helper("perceptual", "perceptual")),
    "no-augmentation": Arm(
        "stage 1", "drivers as they are", _objective(augmentation=AugmentationConfig(crop=0.0, warp=0.0, colour=0.0))
    ),
    "stage-2": Arm("stage 2", "the whole recipe", lambda whole: whole),
    "no-context-dropout": Arm("stage 2", "context always known", _no_context_dropout),
    "no-velocity": Arm("stage 2", "errors of steps do not count", _motion(velocity=0.0)),
    "guided-50": Arm("sampling", "guidance 0.5 on sound, 1 on gaze; 50 steps", _sampled(50, 0.5, 1.0)),
    "guided-10": Arm("sampling", "the same in 10 steps", _sampled(10, 0.5, 1.0)),
    "unguided-50": Arm("sampling", "no guidance, 50 steps", _sampled(50, 0.0, 0.0)),
}
"""By name; the first of a stage is what the others are compared with."""


class Metric(NamedTuple):
    """A line of the table: the mean of some rows of the judges, over the true value where `of_truth`. vasa: what VASA-1
    prints of it (its table of OneMin-32), by arm, and "truth" for its real videos."""

    name: str
    rows: tuple[str, ...]
    of_truth: bool = False
    vasa: Mapping[str, float] = {}


MOTION_METRICS = (
    Metric(
        "mean change of the pose's angles, deg (VASA-1: delta P)",
        ("amplitude/angles",),
        vasa={"guided-50": 0.316, "guided-10": 0.243, "unguided-50": 0.291, "truth": 0.405},
    ),
    Metric(
        "gaze error, deg",
        tuple(f"gaze/{name}" for name in DIRECTIONS),
        vasa={"guided-50": 5.253, "guided-10": 5.469, "unguided-50": 5.730},
    ),
    Metric(
        "distance error, % (VASA-1: of its unit)",
        tuple(f"distance/{factor:g}" for factor in DISTANCES),
        vasa={"guided-50": 0.5, "guided-10": 0.6, "unguided-50": 0.4},
    ),
    Metric("mouth against truth, own sound", ("lip_sync/own",)),
    Metric("mouth against truth, no sound", ("lip_sync/nothing",)),
    Metric("seam of the pose", ("seam/pose",)),
    Metric("seam of the dynamics", ("seam/dynamics",)),
    Metric("jitter of the yaw, of truth", ("jitter/yaw",), of_truth=True),
)
METRICS: Mapping[str, tuple[Metric, ...]] = {
    "stage 1": (
        Metric("reconstruction, dB", ("psnr/all",)),
        Metric("sharpness at 128, of truth", ("at_128/sharpness",)),
        Metric("gain, mean of jaw, gaze and lids", ("gain/jaw", "gain/gaze_x", "gain/gaze_y", "gain/lids")),
        Metric("gain, mean of lip corners and brows", ("gain/corner_pull", "gain/brow_raise")),
        *(
            Metric(f"{factor} exchanged: {region}, dB", (f"exchange/{factor}/{region}",))
            for factor in FACTORS
            for region in ("mouth", "eyes", "head")
        ),
        Metric("two ways to swap agree, dB", ("swap/agreement",)),
        Metric("identity, driven by somebody else", ("identity/crossed",)),
    ),
    "stage 2": MOTION_METRICS,
    "sampling": MOTION_METRICS,
}
JUDGES: Mapping[str, tuple[str, ...]] = {
    stage: tuple(dict.fromkeys(row.split("/")[0] for metric in metrics for row in metric.rows))
    for stage, metrics in METRICS.items()
}
"""Who is asked of an arm."""


def stage_1(steps: int) -> AutoencoderExperiment:
    """The whole recipe of stage 1."""
    whole = configs.load("demo_autoencoder_randomised")
    return dataclasses.replace(
        whole,
        objective=dataclasses.replace(
            whole.objective, **DEAR, consistency_every=4, adversarial_start=round(GAME * steps)
        ),
        discriminator=DiscriminatorConfig(width=16, layers=3, scales=2),
        discriminator_optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, weight_decay=0.0),
        discriminator_every=2,
        optimiser=dataclasses.replace(whole.optimiser, warmup=steps // WARMUP),
        data=dataclasses.replace(whole.data, clips=CLIPS),
        steps=steps,
    )


def stage_2(steps: int) -> MotionExperiment:
    """The whole recipe of stage 2."""
    whole = configs.load("demo_motion")
    return dataclasses.replace(
        whole,
        autoencoder=SOURCE,
        optimiser=dataclasses.replace(whole.optimiser, warmup=steps // WARMUP),
        data=dataclasses.replace(whole.data, clips=CLIPS),
        steps=steps,
    )


WHOLE: dict[str, Callable[[int], Any]] = {"stage 1": stage_1, "stage 2": stage_2}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and judge the arms, then print and draw all that are there."""
    about = "\n".join(f"  {name:<19} {arm.stage}: {arm.about}" for name, arm in ARMS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\narms:\n{about}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    timing.add_platform_flag(parser)
    parser.add_argument("--workdir", type=Path, default=Path("runs/ablations"), help="holds a run for each arm")
    parser.add_argument("--only", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM", help="these alone")
    parser.add_argument("--steps", type=timing.positive, default=400, help="of training, of every arm")
    parser.add_argument("--minutes", type=float, default=60.0, help="of steps of an arm, over all starts; then it ends")
    parser.add_argument("--model", default="demo", help="bundled model or release folder that sampling is about")
    parser.add_argument("--clips", type=timing.positive, default=8, help="performances behind a number; 2 or more")
    parser.add_argument("--seconds", type=float, default=Setting.seconds, help="length of each")
    parser.add_argument("--voices", type=timing.positive, default=4, help="with which controls are asked; 2 or more")
    parser.add_argument("--people", type=timing.positive, default=32, help="that stage 1 is shown; 2 or more")
    parser.add_argument("--png", type=Path, help="also draw the table here")
    flags = parser.parse_args(arguments)
    if not flags.minutes > 0:
        parser.error("--minutes must be above 0")
    if min(flags.clips, flags.voices, flags.people) < 2:
        parser.error("--clips, --voices and --people must be 2 or more: they are compared with each other")
    timing.start(flags)
    for name in flags.only:
        run_arm(name, flags)
    found = read_arms(flags.workdir)
    print("", *tables(found), sep="\n")
    if flags.png is not None:
        with whole_file(flags.png) as hidden:
            picture(found).save(hidden, format="PNG", optimize=True)
        print(f"wrote {flags.png}")


def run_arm(name: str, flags: argparse.Namespace) -> None:
    """Train an arm as far as its budget goes, and judge it where that has not been done.

    Raises SystemExit of 1 where the run was interrupted.
    """
    arm, workdir = ARMS[name], flags.workdir / name
    setting = Setting(clips=flags.clips, seconds=flags.seconds, voices=flags.voices, steps=10)
    if arm.stage == "sampling":
        step, source, setting = 0, flags.model, arm.change(setting) if arm.change else setting
    elif arm.change is None:
        step, source = 0, SOURCE
    else:
        step, source = _trained(name, arm.change, flags), str(workdir)
    asked = {"source": source, "step": step, "setting": dataclasses.asdict(setting), "people": flags.people}
    asked = json.loads(json.dumps(asked))
    if (workdir / JUDGED).exists() and _about(read_json(workdir / JUDGED)) == asked:
        print(f"{name}: judged before")
        return
    print(f"{name}: judging", flush=True)
    rows = list(evaluate(open_source(source), setting, flags.people, JUDGES[arm.stage]))
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / JUDGED, asked, rows, [], draws=True)


def _trained(name: str, change: Callable[[Any], Any], flags: argparse.Namespace) -> int:
    """Go on with the run of an arm; the steps that it has."""
    arm, workdir = ARMS[name], flags.workdir / name
    whole = WHOLE[arm.stage](flags.steps)
    seldom = dict.fromkeys(("eval_every", "pictures_every"), flags.steps)
    experiment = dataclasses.replace(
        change(whole),
        data=dataclasses.replace(whole.data, make_in=str(flags.workdir / f"clips {arm.stage}".replace(" ", "_"))),
        log_every=min(whole.log_every, 20),
        judge_every=0,
        save_every=min(whole.save_every, 50),
        **seldom,
    )
    budget = _Budget(60.0 * flags.minutes - _seconds_of_steps(workdir))
    done = newest_bundle(workdir)[0] if workdir.exists() else None
    if done is not None and (done == flags.steps or budget.left <= 0):
        return done
    print(f"{name}: {arm.about}, from step {done or 0} of {flags.steps}", flush=True)
    experiment = with_helpers(with_speech(experiment))
    result = train(experiment, make_task(experiment), workdir, Start(init_from=SOURCE), stop=budget, progress=False)
    print(f"{name}: step {result.step}, {result.seconds:.0f} s", flush=True)
    if result.stopped not in ("", _Budget.REASON):
        raise SystemExit(f"{name}: stopped by {result.stopped}; the same command goes on from here")
    return result.step


class _Budget:
    """Tells a run to stop when the seconds that are left to its steps are over."""

    REASON = "budget"

    def __init__(self, left: float):
        self.left, self._begun = left, math.nan

    def __call__(self, step: int) -> str:
        if math.isnan(self._begun):
            self._begun = time.monotonic()  # what came before is not steps: data, compilation
        return self.REASON if time.monotonic() - self._begun >= self.left else ""


def _seconds_of_steps(workdir: Path) -> float:
    """What the steps of a run have taken so far, over all starts, as its log has it."""
    log, last = workdir / "log.jsonl", {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        if '"goodput/useful"' in line and line.endswith("}"):
            last = json.loads(line)
    return sum(float(last.get(f"goodput/{kind}") or 0.0) for kind in ("useful", "waiting", "lost"))


def read_arms(workdir: Path) -> dict[str, dict[str, Row]]:
    """The rows of every arm that has been judged, by name."""
    found = {}
    for name in ARMS:
        if (workdir / name / JUDGED).exists():
            rows = read_json(workdir / name / JUDGED)["rows"]
            found[name] = {row["name"]: _row(row) for row in rows}
    return found


def _row(written: Mapping[str, Any]) -> Row:
    known: dict[str, Any] = {key: _known(value) for key, value in written.items()}
    known["draws"] = tuple(map(_known, written["draws"]))
    return Row(**known)


def _known(value: Any) -> Any:
    return math.nan if value is None else value


def _about(judged: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in judged.items() if name not in ("rows", "theval")}


def value(metric: Metric, rows: Mapping[str, Row]) -> float:
    """A metric of an arm; NaN where a row is missing."""
    if not all(name in rows for name in metric.rows):
        return math.nan
    return float(np.mean([rows[name].of_truth if metric.of_truth else rows[name].value for name in metric.rows]))


def truth(metric: Metric, rows: Mapping[str, Row]) -> float:
    """The same of true clips; NaN where there is none."""
    if not all(name in rows for name in metric.rows):
        return math.nan
    return 1.0 if metric.of_truth else float(np.mean([rows[name].truth for name in metric.rows]))


def draws(metric: Metric, rows: Mapping[str, Row]) -> Float[np.ndarray, " n"]:
    """The metric under each resampling of people or clips; one NaN where a row is missing."""
    if not all(name in rows for name in metric.rows):
        return np.full(1, math.nan)
    scales = [rows[name].truth if metric.of_truth else 1.0 for name in metric.rows]
    return np.mean([np.divide(rows[name].draws, scale) for name, scale in zip(metric.rows, scales, strict=True)], 0)


def change(metric: Metric, rows: Mapping[str, Row], whole: Mapping[str, Row]) -> tuple[float, float]:
    """What an arm has more than the whole recipe, and half of that difference's 95 % interval: both are resampled
    together, so what people differ in by themselves falls out."""
    low, high = interval(draws(metric, rows) - draws(metric, whole))
    return value(metric, rows) - value(metric, whole), (high - low) / 2


def worse(metric: Metric, rows: Mapping[str, Row], whole: Mapping[str, Row]) -> float:
    """How much worse an arm is than the whole recipe, in halves of the difference's 95 % interval; below 0 is better,
    and within 1 of 0 is nothing. 0 for the whole recipe itself."""
    if rows is whole:
        return 0.0
    if not all(name in of for of in (rows, whole) for name in metric.rows):
        return math.nan
    better, best = rows[metric.rows[0]].better, truth(metric, rows)

    def off(values: Any) -> Any:
        if better == "truth":
            return np.abs(values - best)
        return -values if better == "high" else np.abs(values)

    low, high = interval(off(draws(metric, rows)) - off(draws(metric, whole)))
    return float(off(value(metric, rows)) - off(value(metric, whole))) / max((high - low) / 2, 1e-9)


def tables(found: Mapping[str, Mapping[str, Row]]) -> Iterator[str]:
    """Lines of a Markdown table for each stage that has arms.

    The first arm's cells have a value and half of its 95 % interval over people or clips; the others' a value and how
    it differs from the first, with half of the difference's, in bold where 0 is not in it. Then what true clips have.
    In brackets is what VASA-1 prints.
    """
    for stage, metrics in METRICS.items():
        names = [name for name in found if ARMS[name].stage == stage]
        if not names:
            continue
        yield f"| {stage} | {' | '.join(names)} | truth |"
        yield "|---" * (len(names) + 2) + "|"
        for metric in metrics:
            cells = [_cell(metric, found[name], found[names[0]], metric.vasa.get(name)) for name in names]
            true = truth(metric, found[names[0]])
            cells.append(_with_paper(number(true), metric.vasa.get("truth")))
            yield f"| {metric.name} | {' | '.join(cells)} |"
        yield ""


def _cell(metric: Metric, rows: Mapping[str, Row], whole: Mapping[str, Row], vasa: float | None) -> str:
    if rows is whole:
        low, high = interval(draws(metric, rows))
        return _with_paper(f"{number(value(metric, rows))} ±{number((high - low) / 2)}", vasa)
    more, half = change(metric, rows, whole)
    text = f"{'-' if more < 0 else '+'}{number(abs(more))} ±{number(half)}"
    text = f"**{text}**" if abs(more) > half else text
    return _with_paper(f"{number(value(metric, rows))}: {text}", vasa)


def _with_paper(text: str, vasa: float | None) -> str:
    return text if vasa is None else f"{text} ({vasa:g})"


NAMES, CELL, LINE, MARGIN = 330, 92, 22, 14
"""Pixels: width of the metrics' names, of a cell, height of a line, and of the border."""
INK, BETTER, WORSE = (30, 30, 36), (90, 140, 215), (225, 110, 90)
FULL = 4.0
"""Halves of a difference's interval at which a colour is full; one half is the least that has any."""


def picture(found: Mapping[str, Mapping[str, Row]]) -> Image.Image:
    """The tables as a picture: every cell has the colour of `worse`."""
    blocks = [(stage, [name for name in found if ARMS[name].stage == stage]) for stage in METRICS]
    blocks = [(stage, names) for stage, names in blocks if names]
    widest = max((len(names) for _, names in blocks), default=1)
    lines = sum(len(METRICS[stage]) + 3 for stage, _ in blocks)
    sheet = Image.new("RGB", (2 * MARGIN + NAMES + widest * CELL, 2 * MARGIN + max(lines, 1) * LINE), (255, 255, 255))
    pen, font, y = ImageDraw.Draw(sheet), ImageFont.load_default(12), MARGIN
    for stage, names in blocks:
        text = f"{stage}: blue is better than the first column, red worse, beyond the difference's interval"
        pen.text((MARGIN, y), text, INK, font)
        y += LINE
        for column, name in enumerate(names):
            pen.text((MARGIN + NAMES + column * CELL, y), name.replace("context-dropout", "ctx-drop"), INK, font)
        for metric in METRICS[stage]:
            y += LINE
            pen.text((MARGIN, y + 3), metric.name, INK, font)
            for column, name in enumerate(names):
                x = MARGIN + NAMES + column * CELL
                colour = _colour(worse(metric, found[name], found[names[0]]))
                pen.rectangle((x, y, x + CELL - 4, y + LINE - 3), colour)
                pen.text((x + 6, y + 3), number(value(metric, found[name])), INK, font)
        y += 2 * LINE
    return sheet


def _colour(off: float) -> tuple[int, ...]:
    share = min(abs(off) / FULL, 1.0) if abs(off) > 1 else 0.0  # not for NaN either
    return tuple(round(246 + share * (end - 246)) for end in (WORSE if off > 0 else BETTER))


if __name__ == "__main__":
    main()
