"""The protocol of judges: evidence in, rows out.

A `Judge` names the evidence that it needs and turns it into `Row`s. A row is a statistic of clips (or people): its
value on what the model made, the interval that a bootstrap over clips gives it, and the same statistic on true clips.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from vasa_jax.errors import UserError

Columns = Sequence[Any]
"""Arrays with a leading axis of clips, that a statistic is taken of."""
Statistic = Callable[..., float]
Better = Literal["high", "low", "truth", "zero"]
RESAMPLES = 1000
LEVEL = 0.95


class Row(NamedTuple):
    """One number that a judge gives.

    name: "judge" or "judge/part". unit: of all values. better: "high", "low", "truth" where the true value is best, or
    "zero" where nothing is: errors, slopes and controls, of which no share of the true value is worth naming.
    value: on what the model made. low, high: 95 % interval, by a bootstrap over clips. truth: on the world's own clips;
    NaN where they have no such number. encoded: on the true frames as stage 1 reads them, which stage 2 learns from;
    NaN where it was not asked. count: clips or people behind it. draws: the statistic under each resampling of the
    bootstrap; every row of as many clips draws the same ones, so two models are compared draw by draw.
    """

    name: str
    unit: str
    better: Better
    value: float
    low: float
    high: float
    truth: float
    encoded: float
    count: int
    draws: tuple[float, ...] = ()

    @property
    def of_truth(self) -> float:
        """The value over the true one; NaN where that is 0 or unknown, or where 0 is best."""
        return self.value / self.truth if self.truth and self.better != "zero" else float("nan")


@dataclasses.dataclass(frozen=True)
class Judge:
    """A number, or a few of one kind.

    name: of the judge; its rows are called so, or begin with it and "/".
    about: what it measures, in one line.
    needs: the attribute of the evidence that `rows` takes.
    rows: that attribute to rows.
    """

    name: str
    about: str
    needs: str
    rows: Callable[[Any], Sequence[Row]]


def mean(values: np.ndarray) -> float:
    """The mean over clips (and over further axes)."""
    return float(np.mean(values, dtype=np.float64))


def ratio(top: np.ndarray, bottom: np.ndarray) -> float:
    """The mean of one column over that of another; NaN where that is 0."""
    below = mean(bottom)
    return mean(top) / below if below else float("nan")


def resample(statistic: Statistic, columns: Columns, resamples: int = RESAMPLES, seed: int = 0) -> list[float]:
    """A statistic of clips that are drawn with replacement, rows of all columns together, as often as `resamples`.

    Args:
        statistic: of the columns.
        columns: arrays with one leading axis.
        resamples: how often.
        seed: of the draws, which depend on it and the number of clips alone.
    """
    arrays = [np.asarray(column, np.float64) for column in columns]
    random = np.random.default_rng(seed)
    count = len(arrays[0])
    return [statistic(*(array[index] for array in arrays)) for index in random.integers(0, count, (resamples, count))]


def interval(draws: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The lower and the upper end of the percentile bootstrap interval at `LEVEL`; NaN where a draw has no value."""
    low, high = np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def row(
    name: str,
    unit: str,
    better: Better,
    made: Columns,
    truth: Columns | float = float("nan"),
    encoded: Columns | float = float("nan"),
    statistic: Statistic = mean,
) -> Row:
    """A row of a statistic.

    Args:
        name, unit, better: see `Row`.
        made: columns of what the model made.
        truth, encoded: the same of true clips and of true frames as stage 1 reads them, or the statistic itself.
        statistic: of the columns.
    """

    def of(columns: Columns | float) -> float:
        return float(columns) if isinstance(columns, int | float) else statistic(*columns)

    draws = resample(statistic, made)
    return Row(
        name, unit, better, statistic(*made), *interval(draws), of(truth), of(encoded), len(made[0]), tuple(draws)
    )


def select(judges: Iterable[Judge], only: Sequence[str] = (), without: Sequence[str] = ()) -> list[Judge]:
    """The judges that are asked, in their own order.

    Args:
        judges: all.
        only: names; none means all.
        without: kinds of evidence that are not to be made.

    Raises:
        UserError: for a name that no judge has, or of a judge whose evidence is not to be made.
    """
    judges = list(judges)
    names = [judge.name for judge in judges]
    if unknown := [name for name in only if name not in names]:
        raise UserError(f"there is no judge {unknown[0]!r}; choose among {', '.join(names)}")
    asked = [judge for judge in judges if judge.name in only or not only]
    if only and (missing := [judge for judge in asked if judge.needs in without]):
        raise UserError(f"the judge {missing[0].name!r} needs {missing[0].needs}, which is left out; leave it out too")
    return [judge for judge in asked if judge.needs not in without]


def ask(judges: Iterable[Judge], evidence: Any) -> Iterator[Row]:
    """The rows of judges, as they come; what each needs is read off the evidence, which makes it once."""
    for judge in judges:
        yield from judge.rows(getattr(evidence, judge.needs))
