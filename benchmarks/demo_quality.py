"""How alive is a demo model? Every judge's number on people it has never met, and the bars it is asked to reach.

    python -m benchmarks.demo_quality [--model demo] [--clips 16] [--steps N] [--only JUDGE ...] [--json OUT]

The judges are those of `python -m vasa_jax.metrics evaluate` (`vasa_jax.metrics.judges`): stage 1 on identities of the
split "test", stage 2 on their speech through the path of `Model.animate`, the mouth read off rendered frames by a probe
trained on true frames of other people and by MediaPipe's Face Landmarker, where VASA_JAX_ASSETS holds its model and it
is installed.

A bar is passed or missed, never moved: each is for a model trained on two CPU cores, and most have a second one, for a
model from an accelerator. Rows that no other benchmark explains: `at_128` compares models of any size at 128 pixels
(`metrics.judges.portraits`), `theval` are THEval's six scores and their mean (`metrics.judges.theval`), and a drift is
one whose interval over stretches of ten seconds does not hold 0.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import timing
from vasa_jax.doors.evaluate import evaluate, open_source
from vasa_jax.inference.controls import DIRECTIONS
from vasa_jax.metrics.judges.evidence import DISTANCES, Setting
from vasa_jax.metrics.judges.motion import DRIFTS
from vasa_jax.metrics.judges.protocol import Row
from vasa_jax.metrics.judges.report import number, score_table, table
from vasa_jax.metrics.judges.theval import METRICS, scores


class Bar(NamedTuple):
    """What is asked of a row: that one of its fields lies from `least` to `most`; `accelerator` takes the place of the
    one that is finite for a model from an accelerator, where there is such a bar."""

    row: str
    field: str
    least: float = -math.inf
    most: float = math.inf
    accelerator: float | None = None


FIRST_EDITION = 21.5
"""PSNR in dB at 128 pixels of the first bundled model, of 64 pixels, on 32 people."""
BARS = (
    Bar("seam/pose", "value", most=1.3),
    Bar("jitter/yaw", "of_truth", most=2.0),
    Bar("gain/jaw", "value", 0.6, accelerator=0.8),
    Bar("gain/gaze_x", "value", 0.7, accelerator=0.8),
    Bar("gain/gaze_y", "value", 0.5, accelerator=0.8),
    Bar("gain/lids", "value", 0.6, accelerator=0.8),
    Bar("gain/corner_pull", "value", 0.3, accelerator=0.8),
    Bar("gain/brow_raise", "value", 0.3, accelerator=0.8),
    Bar("at_128/psnr", "value", FIRST_EDITION + 2.0, accelerator=27.0),
    Bar("at_128/sharpness", "value", 0.6, accelerator=0.9),
    *(Bar(f"gaze/{name}", "value", most=5.0, accelerator=2.5) for name in DIRECTIONS),
    *(Bar(f"distance/{factor:g}", "value", most=1.0, accelerator=0.2) for factor in DISTANCES),
    Bar("emotion", "value", 50.0, accelerator=85.0),
    Bar("frames/mouth", "value", 0.88),
    Bar("lip_sync/own", "value", 0.88),
    Bar("lip_sync/nothing", "value", -0.1, 0.1),
    Bar("lip_sync/other", "low", -0.1, 0.1),
    Bar("lip_sync/other", "high", -0.1, 0.1),
    Bar("lip_sync/own_above_nothing", "low", 0.0),
    *(Bar(f"theval/{name}", "value", 0.6) for name in METRICS),
    Bar("theval/mean", "value", 0.8, accelerator=0.95),
    *(Bar(f"drift/{name}", "low", most=0.0) for name in DRIFTS),
    *(Bar(f"drift/{name}", "high", 0.0) for name in DRIFTS),
    Bar("seam/dynamics", "value", most=1.5),
    Bar("jitter/pose", "of_truth", most=3.0),
    Bar("amplitude/step", "of_truth", 0.8, 1.25),
)
"""All of them. With another's sound the whole interval of the correlation must lie within 0.1 of 0."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table, then a line for each bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--model", default="demo", help="name of a bundled model, or a release folder")
    parser.add_argument("--clips", type=timing.positive, default=Setting.clips, help="performances; 2 or more")
    parser.add_argument("--people", type=timing.positive, default=32, help="identities that stage 1 is shown")
    parser.add_argument("--minutes", type=timing.positive, default=Setting.minutes, help="that drift is measured on")
    parser.add_argument("--steps", type=int, default=0, help="of the sampler; 0 is the model's own number")
    parser.add_argument("--only", nargs="+", default=[], metavar="JUDGE", help="ask these judges alone")
    parser.add_argument("--seed", type=int, default=0, help="of the generated motion")
    parser.add_argument("--cache", default="build/probe", help="folder that keeps the trained probe")
    parser.add_argument("--json", type=Path, help="also write every number here")
    flags = parser.parse_args(arguments)
    if flags.clips < 2:
        parser.error("--clips must be 2 or more: one clip has nobody to exchange its audio with")
    timing.start(flags)
    setting = Setting(clips=flags.clips, minutes=flags.minutes, steps=flags.steps, seed=flags.seed)
    judged = open_source(flags.model)
    rows = list(evaluate(judged, setting, flags.people, flags.only, cache=flags.cache, say=print))
    print(*table(rows), *score_table(scores(rows)), *verdicts(rows), sep="\n")
    if flags.json is not None:
        flags.json.write_text(json.dumps(_report(flags.model, setting, rows), indent=2) + "\n")


def verdicts(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each bar that the rows have, or the scores that follow from them: passed or missed."""
    known = {row.name: row for row in rows} | {row.name: row for row in _scored(rows)}
    for bar in BARS:
        if bar.row not in known:
            continue
        value = getattr(known[bar.row], bar.field)
        asked = " and ".join(
            f"{sign} {end:g}" for sign, end in ((">=", bar.least), ("<=", bar.most)) if math.isfinite(end)
        )
        line = f"{bar.row} {bar.field} {number(value)}: {asked} {_passed(bar.least <= value <= bar.most)}"
        if bar.accelerator is not None:
            least = math.isfinite(bar.least)
            passed = value >= bar.accelerator if least else value <= bar.accelerator
            line += f"; accelerator {'>=' if least else '<='} {bar.accelerator:g} {_passed(passed)}"
        yield line


def _scored(rows: Sequence[Row]) -> Iterator[Row]:
    """THEval's scores as rows; their mean where all of them are known."""
    found = scores(rows)
    for one in found:
        if one.name != "mean" or len(found) == len(METRICS) + 1:
            yield Row(f"theval/{one.name}", "", "high", one.score, math.nan, math.nan, math.nan, math.nan, len(found))


def _passed(passed: bool) -> str:
    return "pass" if passed else "MISS"


def _report(model: str, setting: Setting, rows: Sequence[Row]) -> Mapping[str, object]:
    """Everything for a model card, rounded to four digits."""
    numbers = {
        row.name: {
            field: round(value, 4) if math.isfinite(value := getattr(row, field)) else None
            for field in ("value", "low", "high", "truth", "encoded")
        }
        for row in rows
    }
    return {
        "machine": timing.machine().splitlines(),
        "setting": {"model": model} | dataclasses.asdict(setting),
        "bars": list(verdicts(rows)),
        "numbers": numbers,
    }


if __name__ == "__main__":
    main()
