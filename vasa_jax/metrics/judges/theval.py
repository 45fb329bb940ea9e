"""THEval's form of a judgement: how close a model's statistic comes to that of real clips.

THEval (Evaluation Framework for Talking Head Video Generation, 2025) scores every metric against the real videos of the
same data set,

    score = 1 - |model - real| / |real|,                                                         (1)

so that more movement than real counts as little as less. 1 is like real clips; below 0 is off by more than the real
value itself. Here the real row is the world's own clips (for brows, as the same reader sees them). Their lips are all
but shut and still in pauses, and a share of almost nothing says little; so silent lips are scored by their stillness.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from vasa_jax.metrics.judges.protocol import Row

METRICS: Mapping[str, str] = {
    "mouth opening": "mouth/opening",
    "lip dynamics": "amplitude/mouth",
    "head motion": "amplitude/angles",
    "brows": "brows/step",
    "silent lips": "silent_lips/stillness",
    "sync": "lip_sync/own",
}
"""THEval's metrics and the rows that measure them."""


class Score(NamedTuple):
    """name: of the metric. model, real: the statistics. score: (1)."""

    name: str
    model: float
    real: float
    score: float


def score(model: float, real: float) -> float:
    """(1); NaN where the real value is 0 or unknown."""
    return 1.0 - abs(model - real) / abs(real) if real and np.isfinite(real) else float("nan")


def scores(rows: Iterable[Row]) -> list[Score]:
    """The scores of the metrics that rows have, and last their mean; nothing where rows have none."""
    known = {row.name: row for row in rows}
    found = [
        Score(name, known[of].value, known[of].truth, score(known[of].value, known[of].truth))
        for name, of in METRICS.items()
        if of in known
    ]
    finite = [one.score for one in found if np.isfinite(one.score)]
    return [*found, Score("mean", float("nan"), float("nan"), float(np.mean(finite)))] if finite else found
