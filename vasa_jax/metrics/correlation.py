"""Curves against curves: correlation with its lag, audio that belongs to somebody else, and intervals.

A mouth follows speech if its opening correlates with the true one; the control experiment (as in SyncNet's offset
curves and in the CAPP check of VASA-1 section 4.1, which shifts and permutes the audio) gives every clip another clip's
audio and must find nothing. Plain functions of numpy arrays.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Lagged(NamedTuple):
    """How one curve follows another.

    zero: Pearson correlation at lag 0, -1..1.
    best: the highest correlation within the allowed lags.
    lag: the lag of `best` in frames; positive when the estimate comes later than the truth.
    """

    zero: float
    best: float
    lag: int


def pearson(a: Float[np.ndarray, " t"], b: Float[np.ndarray, " t"]) -> float:
    """Pearson correlation, -1..1; 0 if either curve is constant (a still mouth follows nothing)."""
    a, b = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (a, b))
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-12 else 0.0


def lagged_correlation(truth: Float[np.ndarray, " t"], estimate: Float[np.ndarray, " n"], max_lag: int = 5) -> Lagged:
    """Correlation at lag 0 and at the best lag within ±`max_lag` frames.

    Args:
        truth: a curve, one number a frame.
        estimate: another, of the same length.
        max_lag: frames that either may be shifted; both are cut to their overlap.

    Raises:
        ValueError: if the lengths differ, or leave fewer than three frames of overlap.
    """
    if len(truth) != len(estimate) or len(truth) < max_lag + 3:
        raise ValueError(
            f"curves of {len(truth)} and {len(estimate)} frames cannot be compared at {max_lag=}; they must be equally "
            f"long, at least {max_lag + 3} frames"
        )
    n = len(truth)
    scores = {}
    for lag in range(-max_lag, max_lag + 1):
        scores[lag] = pearson(truth[max(0, -lag) : n - max(0, lag)], estimate[max(0, lag) : n - max(0, -lag)])
    best = max(scores, key=lambda lag: (scores[lag], -abs(lag)))
    return Lagged(scores[0], scores[best], best)


def derangement(count: int, seed: int) -> Int[np.ndarray, " n"]:
    """A permutation of `count` items in which none keeps its place, drawn uniformly among all of them.

    Raises ValueError for fewer than two items, which have none.
    """
    if count < 2:
        raise ValueError(f"{count=} items have no permutation without a fixed point; use 2 or more")
    random = np.random.default_rng(seed)
    while True:  # 1 in e succeeds
        order = random.permutation(count)
        if not (order == np.arange(count)).any():
            return order


def bootstrap_interval(
    values: Float[np.ndarray, "n ..."],
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over clips.

    Args:
        values: one row a clip; further axes (say, one per permutation) are averaged first, so that a clip stays one
        draw. resamples: number of draws with replacement. level: share of the draws that the interval covers. seed: of
        the draws.

    Returns:
        The lower and the upper end.
    """
    rows = np.asarray(values, np.float64).reshape(len(values), -1).mean(1)
    means = rows[np.random.default_rng(seed).integers(0, len(rows), (resamples, len(rows)))].mean(1)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def voiced_span(audio: Float[np.ndarray, " n"], hop: int, threshold_db: float = -35.0) -> tuple[int, int]:
    """First and one past the last frame with sound, so that silence at both ends can be trimmed.

    Args:
        audio: samples, -1..1.
        hop: samples a frame.
        threshold_db: a frame sounds if its RMS is above the loudest frame's plus this.

    Returns:
        (first, end) in frames; (0, 0) if all is silent.
    """
    frames = audio[: len(audio) // hop * hop].reshape(-1, hop).astype(np.float64)
    level = np.sqrt(np.square(frames).mean(1))
    if not len(level) or level.max() <= 0:
        return 0, 0
    loud = np.flatnonzero(level > level.max() * 10 ** (threshold_db / 20))
    return int(loud[0]), int(loud[-1]) + 1
