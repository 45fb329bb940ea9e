"""The numbers of clips that a person looks at: histograms with fixed edges, so that those of many videos add up.

Labels are in a record's units (`vasa_jax.arrays`); here angles are in degrees.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.arrays import EMOTIONS, FPS


class Bins(NamedTuple):
    """Edges of a histogram.

    title: what is counted. unit: of `low` and `high`; what lies beyond counts at the edge. count: of bins.
    """

    title: str
    unit: str
    low: float
    high: float
    count: int


HISTOGRAMS: dict[str, Bins] = {
    "yaw": Bins("yaw (+ to the viewer's left)", "degrees", -90, 90, 36),
    "pitch": Bins("pitch (+ down)", "degrees", -90, 90, 36),
    "roll": Bins("roll (+ clockwise)", "degrees", -90, 90, 36),
    "tx": Bins("head's centre, across", "half pictures", -1, 1, 40),
    "ty": Bins("head's centre, down", "half pictures", -1, 1, 40),
    "distance": Bins("log distance", "0: half a head is 0.62 of half a picture", -1.0, 1.0, 40),
    "theta": Bins("gaze across (+ to the viewer's right)", "degrees", -60, 60, 40),
    "phi": Bins("gaze up", "degrees", -60, 60, 40),
    "mouth": Bins("mouth opening", "0 closed, 1 wide open", 0, 1, 40),
    "lids": Bins("opening of the eyes", "0 closed, 1 wide open", 0, 1, 40),
    "corners": Bins("lip corners", "-1 drawn down, 1 drawn up", -1, 1, 40),
    "brows": Bins("brows", "-1 lowered, 1 raised", -1, 1, 40),
    "length": Bins("length of clips", "seconds", 0, 10, 40),
    "speech": Bins("share of speech", "share of the clip", 0, 1, 40),
}
"""Those of single frames first; `length` and `speech` count clips."""
_ANGLES = {("pose", 0): "pitch", ("pose", 1): "yaw", ("pose", 2): "roll", ("gaze", 0): "theta", ("gaze", 1): "phi"}
_PLAIN = {
    ("pose", 3): "tx",
    ("pose", 4): "ty",
    ("pose", 5): "distance",
    ("expression", 0): "corners",
    ("expression", 1): "brows",
}


class Numbers:
    """Sums over clips, of one video or of many."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.histograms = {name: np.zeros(bins.count, np.int64) for name, bins in HISTOGRAMS.items()}
        self.emotions: dict[str, int] = dict.fromkeys(EMOTIONS, 0)
        self.people: dict[str, list[int]] = {}

    def add(self, frames: int, labels: Mapping[str, Any], about: Mapping[str, str | int | float]) -> None:
        """Count a clip of `frames` pictures with its labels; a frame in which a label is unknown (NaN) is left out."""
        for (label, component), name in (_ANGLES | _PLAIN).items():
            if label in labels:
                values = np.asarray(labels[label], np.float64)[:, component]
                self._count(name, np.degrees(values) if (label, component) in _ANGLES else values)
        for name in ("mouth", "lids"):
            if name in labels:
                self._count(name, np.asarray(labels[name], np.float64).ravel())
        self._count("length", [frames / FPS])
        if isinstance(speech := about.get("speech"), int | float):
            self._count("speech", [speech])
        if "emotion" in labels:
            self.emotions[EMOTIONS[int(np.argmax(labels["emotion"]))]] += 1
        if "identity" in labels:
            person = self.people.setdefault(str(int(labels["identity"])), [0, 0])
            person[0] += 1
            person[1] += frames

    def merge(self, written: Mapping[str, Any]) -> None:
        """Add what `as_json` gave of others; what it does not know is left out."""
        for name, counts in written.get("histograms", {}).items():
            if name in self.histograms and len(counts) == HISTOGRAMS[name].count:
                self.histograms[name] += np.asarray(counts, np.int64)
        for name, count in written.get("emotions", {}).items():
            self.emotions[name] = self.emotions.get(name, 0) + count
        for identity, (clips, frames) in written.get("people", {}).items():
            person = self.people.setdefault(identity, [0, 0])
            person[0] += clips
            person[1] += frames

    def as_json(self) -> dict[str, Any]:
        """What is not empty, as JSON keeps it."""
        return {
            "histograms": {name: counts.tolist() for name, counts in self.histograms.items() if counts.any()},
            "emotions": {name: count for name, count in self.emotions.items() if count},
            "people": self.people,
        }

    def _count(self, name: str, values: Iterable[float]) -> None:
        bins = HISTOGRAMS[name]
        array = np.asarray(values, np.float64)
        array = array[np.isfinite(array)]
        place = np.floor((array - bins.low) / (bins.high - bins.low) * bins.count).astype(np.int64)
        self.histograms[name] += np.bincount(np.clip(place, 0, bins.count - 1), minlength=bins.count)


def middle(name: str, counts: np.ndarray) -> float:
    """The median of a histogram, to the middle of its bin; NaN where it is empty."""
    total = counts.sum()
    if not total:
        return math.nan
    bins = HISTOGRAMS[name]
    at = int(np.searchsorted(np.cumsum(counts), total / 2))
    return bins.low + (at + 0.5) * (bins.high - bins.low) / bins.count
