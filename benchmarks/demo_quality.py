"""How alive is a demo model? Every judge's number on people it has never met, and the bars it is asked to reach.

    python -m benchmarks.demo_quality [--model demo] [--clips 16] [--people 32] [--steps N] [--json OUT]

The judges are those of `python -m vasa_jax.metrics evaluate` (`vasa_jax.metrics.judges`): stage 1 on identities of the
split "test", stage 2 on their speech through the path of `Model.animate`, the mouth read off rendered frames by a probe
trained on true frames of other people and by MediaPipe's Face Landmarker, where VASA_JAX_ASSETS holds its model and it
is installed.

A bar is passed or missed, never moved: those of stage 1 and of lip sync are for a model trained on two CPU cores (and
higher for one from an accelerator), those of motion for any.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import timing
from vasa_jax.doors.evaluate import evaluate, open_source
from vasa_jax.metrics.judges.evidence import Setting
from vasa_jax.metrics.judges.protocol import Row
from vasa_jax.metrics.judges.report import number, score_table, table
from vasa_jax.metrics.judges.theval import scores


class Bar(NamedTuple):
    """What is asked of a row: that one of its fields lies from `least` to `most`; `accelerator` is the higher `least`
    for a model from an accelerator, where there is one."""

    row: str
    field: str
    least: float = -math.inf
    most: float = math.inf
    accelerator: float | None = None


BARS = (
    Bar("gain/jaw", "value", 0.3, accelerator=0.7),
    Bar("gain/gaze_x", "value", 0.1, accelerator=0.5),
    Bar("gain/gaze_y", "value", 0.1, accelerator=0.5),
    Bar("gain/lids", "value", 0.1, accelerator=0.5),
    Bar("psnr/all", "value", 22.0, accelerator=26.0),
    Bar("frames/mouth", "value", 0.3, accelerator=0.6),
    Bar("lip_sync/other", "low", -0.1, 0.1),
    Bar("lip_sync/other", "high", -0.1, 0.1),
    Bar("lip_sync/own_above_nothing", "low", 0.0),
    Bar("lip_sync/own", "value", 0.8),
    Bar("seam/pose", "value", most=1.5),
    Bar("seam/dynamics", "value", most=1.5),
    Bar("jitter/pose", "of_truth", most=3.0),
    Bar("amplitude/step", "of_truth", 0.8, 1.25),
    *(Bar(f"gaze/{name}", "value", most=6.0) for name in ("forward", "left", "right", "up", "down")),
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
    parser.add_argument("--seed", type=int, default=0, help="of the generated motion")
    parser.add_argument("--cache", default="build/probe", help="folder that keeps the trained probe")
    parser.add_argument("--json", type=Path, help="also write every number here")
    flags = parser.parse_args(arguments)
    if flags.clips < 2:
        parser.error("--clips must be 2 or more: one clip has nobody to exchange its audio with")
    timing.start(flags)
    setting = Setting(clips=flags.clips, minutes=flags.minutes, steps=flags.steps, seed=flags.seed)
    rows = list(evaluate(open_source(flags.model), setting, flags.people, cache=flags.cache, say=print))
    print(*table(rows), *score_table(scores(rows)), *verdicts(rows), sep="\n")
    if flags.json is not None:
        flags.json.write_text(json.dumps(_report(flags.model, setting, rows), indent=2) + "\n")


def verdicts(rows: Iterable[Row]) -> Iterator[str]:
    """A line for each bar that the rows have: passed or missed."""
    known = {row.name: row for row in rows}
    for bar in BARS:
        if bar.row not in known:
            continue
        value = getattr(known[bar.row], bar.field)
        asked = " and ".join(
            f"{sign} {end:g}" for sign, end in ((">=", bar.least), ("<=", bar.most)) if math.isfinite(end)
        )
        line = f"{bar.row} {bar.field} {number(value)}: {asked} {_passed(bar.least <= value <= bar.most)}"
        if bar.accelerator is not None:
            line += f"; accelerator >= {bar.accelerator:g} {_passed(value >= bar.accelerator)}"
        yield line


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
