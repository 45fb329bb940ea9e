"""The report that a person looks at: `RECORDS/report.html`, one file that asks nothing of anybody else.

It says what was kept and what was dropped and why, with pictures of both drawn at random, histograms of the labels, and
the videos that failed. Pictures are few and small, whatever the size of the job.
"""

import dataclasses
import hashlib
import heapq
import html
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vasa_jax.arrays import FPS
from vasa_jax.files import read_json, write_text
from vasa_jax.preparation.config import REASONS
from vasa_jax.preparation.manifest import DONE, Manifest
from vasa_jax.preparation.numbers import HISTOGRAMS, Bins, Numbers, middle
from vasa_jax.preparation.worker import REFUSED

KEPT = ""
"""Stands for a kept clip where a reason would stand."""
KEPT_SHOWN, DROPPED_SHOWN, FAILURES_SHOWN, SOURCES_SHOWN = 60, 20, 500, 50
"""Most pictures of kept clips, pictures a reason, lines of failures, and lines of videos without clips."""
_LARGEST_PICTURE = 27_000
_JPEG = "/9j/"
"""How a picture begins, and how long it is at most, in base 64."""
_CONSENT = (
    "The people in these videos must have agreed that their faces and voices train a model that can make them move and "
    "talk. Look for those who have not, and remove their videos and the records made of them. This page shows their "
    "faces: keep it as you keep the videos."
)
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1rem 0 .3rem; }
.note { border-left: 4px solid #c60; background: #fff6ec; padding: .6rem .9rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; } .tile { border: 1px solid #ddd; padding: .5rem .9rem; }
.tile b { display: block; font-size: 1.35rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .15rem .8rem .15rem 0; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; } thead th { border-bottom: 1px solid #999; }
.sheet { display: flex; flex-wrap: wrap; gap: 4px; } .sheet img { width: 96px; height: 96px; object-fit: cover; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: #444; } svg text { font: 10px system-ui, sans-serif; }
"""


@dataclasses.dataclass
class Totals:
    """Counts of a folder; `seconds` are those of work, `dropped` counts candidates by reason."""

    videos: int = 0
    failed: int = 0
    empty: int = 0
    clips: int = 0
    frames: int = 0
    people: int = 0
    megabytes: float = 0.0
    seconds: float = 0.0
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def length(self) -> str:
        """Length of the kept clips, in words."""
        return duration(self.frames / FPS)


def write_report(records: Path) -> Totals:
    """Write the report of a folder from its manifest, and count what it holds.

    Args:
        records: the folder.

    Raises:
        UserError: an entry is damaged, or the system refuses.
    """
    totals, numbers, manifest = Totals(), Numbers(), Manifest(records)
    unused = defaultdict[str, float](float)
    failures: list[tuple[str, str]] = []
    empty: list[tuple[str, str]] = []
    pictures: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    sides = _sides(records)
    for entry in manifest.entries():
        totals.videos += 1
        totals.seconds += entry.get("seconds", 0.0)
        if entry.get("state") != DONE:
            totals.failed += 1
            failures.append((entry["source"], entry.get("error", "")))
            continue
        clips = entry.get("clips", [])
        totals.clips += len(clips)
        totals.frames += sum(clip["frames"] for clip in clips)
        totals.megabytes += sum(clip["bytes"] for clip in clips) / 1e6
        totals.dropped.update(entry.get("dropped", {}))
        for why, seconds in entry.get("dropped_seconds", {}).items():
            unused[why] += seconds
        if not clips:
            totals.empty += 1
            why = ", ".join(f"{name} {count}" for name, count in entry.get("dropped", {}).items())
            empty.append((entry["source"], why or "no face was found"))
        numbers.merge(entry.get("numbers", {}))
        for i, (why, picture) in enumerate(entry.get("pictures", [])):
            rank = hashlib.sha256(f"{entry['source']} {i}".encode()).hexdigest()
            pictures[why].append((rank, picture, entry["source"]))
            if len(pictures[why]) > 2000:
                pictures[why] = _chosen(why, pictures[why])
    totals.people = len(numbers.people)
    sections = [
        f'<p class="note">{_CONSENT}</p>',
        _tiles(totals, sides),
        _dropped_table(totals, unused, manifest.skipped()),
        "<h2>Kept, at random</h2>",
        _sheet(_chosen(KEPT, pictures.pop(KEPT, []))),
        "<h2>Labels</h2>",
        _plots(numbers),
        "<h2>Dropped, at random</h2>",
        *(
            f"<h3>{html.escape(why)}: {html.escape(_sentence(why))}</h3>{_sheet(_chosen(why, pictures[why]))}"
            for why in sorted(pictures, key=lambda why: -totals.dropped[why])
        ),
        _rows("Videos that failed", ("video", "why"), sorted(failures), FAILURES_SHOWN),
        _rows("Videos without a clip", ("video", "dropped"), sorted(empty), SOURCES_SHOWN),
        _settings(records),
    ]
    title = f"Preparation of {html.escape(records.resolve().name)}"
    write_text(
        records / "report.html",
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{title}</h1>\n" + "\n".join(filter(None, sections)) + "\n</body></html>\n",
    )
    return totals


def duration(seconds: float) -> str:
    """A length of time in the unit that fits it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def histogram(bins: Bins, counts: Sequence[int], note: str = "") -> str:
    """A histogram as an SVG figure.

    Args:
        bins: its edges and names.
        counts: of each bin.
        note: a few words below it.
    """
    width, height, below = 320, 90, 14
    most = max([1, *counts])
    step = width / bins.count
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height - count / most * height:.1f}" width="{step - 0.8:.1f}" '
        f'height="{count / most * height:.1f}"/>'
        for i, count in enumerate(counts)
        if count
    )
    ticks = "".join(
        f'<text x="{share * width:.0f}" y="{height + below - 3}" text-anchor="{anchor}">'
        f"{bins.low + share * (bins.high - bins.low):g}</text>"
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    middle_line = f'<path d="M{width / 2} 0V{height}" stroke="#ccc"/>' if bins.low < 0 else ""
    return (
        f'<figure><svg viewBox="0 0 {width} {height + below}" role="img" aria-label="{html.escape(bins.title)}">'
        f'{middle_line}<g fill="#357">{bars}</g><path d="M0 {height}H{width}" stroke="#444"/>{ticks}</svg>'
        f"<figcaption><b>{html.escape(bins.title)}</b>, {html.escape(bins.unit + note)}</figcaption></figure>"
    )


def _sentence(why: str) -> str:
    if why == REFUSED:
        return "a number of the labels, or the sound, is out of a record's range"
    return REASONS.get(why, "")


def _chosen(why: str, pictures: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """A random choice that is the same in every report of the same clips."""
    return heapq.nsmallest(KEPT_SHOWN if why == KEPT else DROPPED_SHOWN, pictures)


def _sheet(pictures: Sequence[tuple[str, str, str]]) -> str:
    """Pictures in rows; what is no JPEG, or too large, is left out."""
    shown = []
    for _, data, source in pictures:
        if len(data) <= _LARGEST_PICTURE and data.startswith(_JPEG):
            name = html.escape(source)
            shown.append(f'<img alt="{name}" title="{name}" src="data:image/jpeg;base64,{html.escape(data)}">')
    return f'<div class="sheet">{"".join(shown)}</div>' if shown else "<p>None.</p>"


def _tiles(totals: Totals, sides: Mapping[str, int]) -> str:
    tiles = [
        ("videos", f"{totals.videos:,}"),
        ("failed", f"{totals.failed:,}"),
        ("without a clip", f"{totals.empty:,}"),
        ("clips kept", f"{totals.clips:,}"),
        ("kept", totals.length),
        ("people", f"{totals.people:,}"),
        *((f"{side} clips", f"{count:,}") for side, count in sides.items()),
        ("gigabytes", f"{totals.megabytes / 1000:.2f}"),
        ("kept frames/s a worker", f"{totals.frames / totals.seconds:.0f}" if totals.seconds else "-"),
    ]
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{n}</b>{name}</div>' for name, n in tiles) + "</div>"


def _dropped_table(totals: Totals, unused: Mapping[str, float], skipped: Mapping[str, int]) -> str:
    dropped = totals.dropped
    everything = totals.clips + sum(dropped.values())
    rows = [("<b>kept</b>", "", totals.clips, totals.frames / FPS)]
    rows += [
        (html.escape(why), html.escape(_sentence(why)), dropped[why], unused.get(why, 0.0))
        for why in sorted(dropped, key=lambda why: -dropped[why])
    ]
    body = "".join(
        f'<tr><td>{why}</td><td class="n">{count:,}</td><td class="n">{100 * count / max(1, everything):.1f} %</td>'
        f'<td class="n">{duration(seconds)}</td><td>{sentence}</td></tr>'
        for why, sentence, count, seconds in rows
    )
    aside = ""
    if skipped:
        kinds = ", ".join(f"{html.escape(ending)} {count}" for ending, count in skipped.items())
        aside = f"<p>{sum(skipped.values()):,} files are no videos by their names and were left aside: {kinds}.</p>"
    return (
        "<h2>Kept and dropped</h2><p>A candidate is the run of one face between two cuts. Overlays and watermarks are "
        "not looked for: look at the pictures.</p><table><thead><tr><th></th>"
        '<th class="n">candidates</th><th class="n">share</th><th class="n">length</th><th></th></tr></thead>'
        f"<tbody>{body}</tbody></table>{aside}"
    )


def _plots(numbers: Numbers) -> str:
    figures = []
    for name, bins in HISTOGRAMS.items():
        counts = numbers.histograms[name]
        if counts.any():
            figures.append(histogram(bins, counts.tolist(), f"; median {middle(name, counts):.3g}"))
    if any(numbers.emotions.values()):
        figures.append(_emotions(numbers.emotions))
    if numbers.people:
        clips = [float(person[0]) for person in numbers.people.values()]
        seconds = [person[1] / FPS for person in numbers.people.values()]
        figures.append(_of_people("clips a person", "clips", clips))
        figures.append(_of_people("length a person", "seconds", seconds))
    return f'<div class="plots">{"".join(figures)}</div>' if figures else "<p>None.</p>"


def _of_people(title: str, unit: str, values: Sequence[float]) -> str:
    """A histogram of people, up to the largest."""
    count = 20
    top = max(count, math.ceil(max(values) / count) * count)
    counts = [0] * count
    for value in values:
        counts[min(count - 1, int(value / top * count))] += 1
    return histogram(Bins(title, unit, 0, top, count), counts, f"; of {len(values):,}")


def _emotions(counts: Mapping[str, int]) -> str:
    """Bars of the strongest emotion of each clip."""
    most, total = max(counts.values()), sum(counts.values())
    rows = "".join(
        f'<text x="0" y="{13 * i + 10}">{html.escape(name)}</text>'
        f'<rect x="70" y="{13 * i + 2}" width="{200 * count / most:.1f}" height="10" fill="#357"/>'
        f'<text x="{74 + 200 * count / most:.1f}" y="{13 * i + 10}">{100 * count / total:.0f} %</text>'
        for i, (name, count) in enumerate(sorted(counts.items()))
    )
    return (
        f'<figure><svg viewBox="0 0 320 {13 * len(counts) + 2}" role="img" aria-label="emotion">{rows}</svg>'
        "<figcaption><b>strongest emotion</b>, share of clips</figcaption></figure>"
    )


def _rows(title: str, heads: tuple[str, str], rows: Sequence[tuple[str, str]], most: int) -> str:
    if not rows:
        return ""
    more = f"<p>And {len(rows) - most:,} more; the manifest has them all.</p>" if len(rows) > most else ""
    body = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows[:most])
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<h2>{title}: {len(rows):,}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _settings(records: Path) -> str:
    settings = read_json(records / "preparation.json")
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(json.dumps(value))}</td></tr>"
        for name, value in settings.items()
    )
    return f"<h2>Settings</h2><details><summary>all</summary><table>{rows}</table></details>"


def _sides(records: Path) -> dict[str, int]:
    """Side to the number of its clips."""
    plan = records / "shards.json"
    counts = {"train": 0, "validation": 0}
    for shard in read_json(plan)["shards"] if plan.is_file() else []:
        counts[shard["name"].partition("/")[0]] += sum(count for _, _, count in shard["pieces"])
    return counts
