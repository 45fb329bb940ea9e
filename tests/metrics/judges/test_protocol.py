"""Rows: statistics with intervals; judges: who is asked."""

import math

import numpy as np
import pytest

from vasa_jax.errors import UserError
from vasa_jax.metrics.judges.protocol import Judge, ask, interval, mean, ratio, resample, row, select

JUDGES = [
    Judge("one", "", "cheap", lambda seen: [row("one", "", "low", (np.full(3, float(seen)),), 2.0)]),
    Judge("two", "", "dear", lambda seen: []),
]


class Evidence:
    """Counts how often it is made."""

    cheap = 4

    @property
    def dear(self):
        """Never."""
        raise AssertionError("made")


def test_a_row_is_a_statistic_and_its_interval():
    """The mean of 0..9 is 4.5, and 95 % of the bootstrap lies within about 1.8 of it; equal values have no spread."""
    values = np.arange(10.0)
    one = row("name", "dB", "high", (values,), (2 * values,), statistic=mean)
    assert one.value == 4.5 and one.truth == 9.0 and one.of_truth == 0.5 and one.count == 10 and math.isnan(one.encoded)
    assert 2.4 < one.low < 3.0 and 6.0 < one.high < 6.6
    assert interval(resample(mean, (np.full(5, 3.0),))) == (3.0, 3.0)


def test_rows_of_a_ratio_draw_top_and_bottom_together():
    """Every clip has the ratio 3, whatever its size, so no draw of clips has another."""
    bottom = np.array([1.0, 10.0, 100.0])
    assert interval(resample(ratio, (3 * bottom, bottom))) == (3.0, 3.0)
    assert math.isnan(ratio(bottom, 0 * bottom)) and math.isnan(row("x", "", "low", (bottom,), 0.0).of_truth)


def test_only_what_is_asked_is_made():
    """By name, and without evidence that is left out."""
    [found] = ask(select(JUDGES, ["one"]), Evidence())
    assert found.value == 4.0 and found.of_truth == 2.0
    assert select(JUDGES, without=["dear"]) == JUDGES[:1] and select(JUDGES) == JUDGES
    with pytest.raises(UserError, match="no judge 'three'; choose among one, two"):
        select(JUDGES, ["three"])
    with pytest.raises(UserError, match="'two' needs dear"):
        select(JUDGES, ["two"], ["dear"])
