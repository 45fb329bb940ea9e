"""How well vectors tell people apart, and numbers are read: scores of a frozen helper on people that it never met.

Verification as in face recognition (VASA-1's section 4 and MegaPortraits' table 1 report the cosine of ArcFace vectors,
which mean something only beside these): two pictures are of one person where the cosine of their vectors exceeds a
threshold. Plain functions of NumPy arrays.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Verification(NamedTuple):
    """How pairs of one person compare with pairs of two.

    equal_error_rate: share of errors at the threshold where both kinds are equally frequent. auc: chance that a pair of
    one person has the larger cosine. rank_1: share of pictures whose own person's gallery picture is the nearest of
    all. same, other: mean cosines.
    """

    equal_error_rate: float
    auc: float
    rank_1: float
    same: float
    other: float


def verification(codes: Float[np.ndarray, "p n k"]) -> Verification:
    """Scores of the codes of p people in n pictures each, of unit length; the first picture of each is the gallery.

    Raises:
        ValueError: fewer than two people or pictures.
    """
    p, n, _ = codes.shape
    if p < 2 or n < 2:
        raise ValueError(f"{p} people in {n} pictures are too few; two of each make a pair")
    flat = np.asarray(codes, np.float64).reshape(p * n, -1)
    cosines = flat @ flat.T
    person = np.repeat(np.arange(p), n)
    first, second = np.triu_indices(p * n, 1)
    one = person[first] == person[second]
    same, other = cosines[first, second][one], cosines[first, second][~one]
    probes = np.arange(p * n) % n > 0
    nearest = cosines[probes][:, ~probes].argmax(1)
    return Verification(
        equal_error_rate(same, other),
        area_under_curve(same, other),
        float((nearest == person[probes]).mean()),
        float(same.mean()),
        float(other.mean()),
    )


def area_under_curve(high: Float[np.ndarray, " n"], low: Float[np.ndarray, " k"]) -> float:
    """Chance that a number of `high` exceeds one of `low`, ties counting half (Mann and Whitney 1947)."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / (2 * len(low)))


def equal_error_rate(high: Float[np.ndarray, " n"], low: Float[np.ndarray, " k"]) -> float:
    """Share of errors at the threshold where as large a share of `high` lies below as of `low` above it."""
    thresholds = np.unique(np.concatenate([high, low]))
    missed = np.searchsorted(np.sort(high), thresholds, "left") / len(high)
    passed = 1.0 - np.searchsorted(np.sort(low), thresholds, "left") / len(low)
    closest = np.abs(missed - passed).argmin()
    return float(0.5 * (missed[closest] + passed[closest]))


def explained(read: Float[np.ndarray, "n c"], true: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " c"]:
    """R^2 of each column: 1 is perfect, 0 is no better than the mean, NaN where the truth does not vary."""
    rest = np.square(np.asarray(read, np.float64) - true).sum(0)
    spread = np.square(true - np.mean(true, 0, dtype=np.float64)).sum(0)
    return np.where(spread > 0.0, 1.0 - rest / np.where(spread > 0.0, spread, 1.0), np.nan)
