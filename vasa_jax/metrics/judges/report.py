"""What judges said, for people and for programs: a table, a picture of values against truth, and JSON."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vasa_jax.files import whole_file, write_text
from vasa_jax.metrics.judges.protocol import Row
from vasa_jax.metrics.judges.theval import Score

SPREAD = 32.0
"""The picture shows values from 1 / SPREAD to SPREAD times the true one."""
LABEL, PLOT, MARGIN, LINE = 210, 560, 16, 17
"""Pixels: width of the names, of the axis, of the border, and height of a row."""
INK, GRID, BAR, FAR = (30, 30, 36), (218, 218, 224), (70, 120, 190), (200, 90, 60)
NEAR = 1.25
"""Factor off the truth from which a bar has the other colour."""


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of a table: value and its 95 % interval, the same on true clips, on these as stage 1 reads them, and the
    value over the true one."""
    if not rows:
        return
    width = max(len(row.name) for row in rows)
    yield f"{'':<{width}} {'value [95 %]':>27} {'truth':>9} {'encoded':>9} {'of truth':>9} {'n':>4}  unit"
    for row in rows:
        value = f"{number(row.value)} [{number(row.low)}, {number(row.high)}]"
        cells = f"{number(row.truth):>9} {number(row.encoded):>9} {number(row.of_truth):>9}"
        yield f"{row.name:<{width}} {value:>27} {cells} {row.count:>4}  {row.unit}"


def score_table(scores: Sequence[Score]) -> Iterator[str]:
    """Lines of THEval's scores."""
    if scores:
        yield "THEval's form: 1 - |model - real| / |real|"
        for one in scores:
            yield f"  {one.name:<14} {number(one.score):>8}   model {number(one.model)}, real {number(one.real)}"


def number(value: float) -> str:
    """Three digits that count, at most four behind the point; a dash where there is no value."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) < 5e-5:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


def write_json(
    path: str | Path, about: Mapping[str, Any], rows: Sequence[Row], scores: Sequence[Score], draws: bool = False
) -> None:
    """Write everything as JSON, the draws of rows where they are asked for; numbers that are not known are null."""
    left_out = () if draws else ("draws",)
    content = dict(about) | {
        "rows": [{key: _known(value) for key, value in row._asdict().items() if key not in left_out} for row in rows],
        "theval": [{name: _known(value) for name, value in one._asdict().items()} for one in scores],
    }
    write_text(Path(path), json.dumps(content, indent=2) + "\n")


def write_picture(path: str | Path, title: str, rows: Sequence[Row]) -> None:
    """Write a PNG: a bar for each row that has a true value, from the truth at 1 to the value, on a logarithmic axis,
    with the interval as a line."""
    with whole_file(Path(path)) as hidden:
        picture(title, rows).save(hidden, format="PNG", optimize=True)


def picture(title: str, rows: Sequence[Row]) -> Image.Image:
    """The picture of `write_picture`."""
    shown = [row for row in rows if math.isfinite(row.of_truth) and row.of_truth > 0]
    width, height = LABEL + PLOT + 90 + 2 * MARGIN, (len(shown) + 3) * LINE + 2 * MARGIN
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    left, top, bottom = MARGIN + LABEL, MARGIN + 2 * LINE, height - MARGIN - LINE

    def place(factor: float) -> float:
        share = math.log(min(max(factor, 1 / SPREAD), SPREAD)) / math.log(SPREAD)
        return left + PLOT * (0.5 + 0.5 * share)

    pen.text((MARGIN, MARGIN), title, INK, font)
    for power in range(-5, 6):
        x = place(2.0**power)
        pen.line((x, top - 4, x, bottom), INK if not power else GRID)
        mark = f"{2**power}" if power >= 0 else f"1/{2**-power}"
        pen.text((x - 3 * len(mark), bottom + 2), mark, INK, font)
    for line, row in enumerate(shown):
        y = top + line * LINE
        pen.text((MARGIN, y), row.name, INK, font)
        ends = sorted((place(1.0), place(row.of_truth)))
        far = max(row.of_truth, 1 / row.of_truth) > NEAR
        pen.rectangle((ends[0], y + 4, ends[1], y + LINE - 6), FAR if far else BAR)
        if math.isfinite(row.low) and row.low > 0:
            pen.line((place(row.low / row.truth), y + 7, place(row.high / row.truth), y + 7), INK)
        pen.text((left + PLOT + 10, y), f"{number(row.of_truth)} x truth", INK, font)
    return sheet


def _known(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_known(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
