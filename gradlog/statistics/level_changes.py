"""Where a series changes its level for good: sudden changes, not drift, and not what it does all along.

Narrowest over threshold (Baranowski, Chen and Fryzlewicz 2019) on seeded intervals (Kovacs et al. 2023): the
whole series, its halves, quarters and so on down to 40 values, each shifted by half its length. In each, the
narrowest first, the place k is that of the largest weighted CUSUM of ranks, which no outlier moves, and it is
a change where all of this holds:

- size: medians on both sides differ by `least` or more;
- chance: `change_point.self_normalized` of the ranks at k, times the number of intervals, passes with
  probability `level` at most where nothing changes, however values hang together;
- evidence: the means on both sides differ by 6.3 standard errors or more, with the long-run variance of what
  is left (`long_run_variance`): what hangs together over a tenth of an interval counts once;
- sudden: a step explains the interval better than a line, and the lines through both sides are still apart
  at k by half of the size;
- not all along: where the sides are short beside the series, neighbouring windows of their length elsewhere
  differ by a fifth of it at most, by the median.

Intervals that hold a change that was found are looked at no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .change_point import chance, self_normalized
from .long_run_variance import flat_top_variance
from .medians import median

Doubles = NDArray[np.float64]

TOGETHER = 1 << 15
"""Values of series that are looked at at once."""
SHORTEST = 40
"""Values of an interval, or all of a shorter series."""
LEAST_VALUES = 16
"""A shorter series says nothing."""
LEAST_SIDE = 8
"""Values on either side of a change, or a quarter of an interval."""
EVIDENCE = 40.0
"""Of the squared difference of means over its variance."""
CARRIED = 4.0
"""So many times the values that hang together is an interval long."""
STEP_OVER_LINE = 4.0
"""Twice the logarithm of how much likelier a step is than a line."""
APART = 0.5
"""Of the size, that lines through both sides are apart at the change."""
ALL_ALONG = 5.0
"""A change is so many times what neighbouring windows differ by elsewhere."""
ELSEWHERE = 6
"""There is an elsewhere where the series is so many times as long as the shorter side."""


@dataclass(frozen=True)
class LevelChange:
    """at : index of the first value of the new level; before, after : medians from change to change

    error : standard error of the difference of both levels, as the values hang together
    chance : with which a series of this length that keeps its level would show one somewhere
    """

    at: int
    before: float
    after: float
    error: float
    chance: float

    @property
    def size(self) -> float:
        """Difference of both levels."""
        return self.after - self.before


def level_changes(series: Sequence[Doubles], level: float, least: float) -> list[list[LevelChange]]:
    """The changes of level of each series, in its order. See the module.

    series : (n,) float64 each, finite, such as logarithms of norms; those of one n are looked at together
    level : the probability with which a series that keeps its level may show any
    least : difference of levels, in the values' unit, that counts
    """
    told: list[list[LevelChange]] = [[] for _ in series]
    of_size: dict[int, list[int]] = {}
    for number, values in enumerate(series):
        # Means differ by no more than values do: most series hold nothing.
        if values.size >= LEAST_VALUES and values.max() - values.min() >= least:
            of_size.setdefault(values.size, []).append(number)
    for size, numbers in of_size.items():
        many = max(1, TOGETHER // size)
        for at in range(0, len(numbers), many):
            lot = numbers[at : at + many]
            for number, found in zip(
                lot, _places(np.stack([series[n] for n in lot]), level, least), strict=True
            ):
                told[number] = _told(series[number], found, least)
    return told


def _places(series: Doubles, level: float, least: float) -> list[dict[int, float]]:
    """Where each of (m, n) series changes its level, and the chance of that."""
    lengths = list(_intervals(series.shape[1]))
    count = sum(starts.size for _, starts in lengths)
    found: list[dict[int, float]] = [{} for _ in series]
    for length, starts in lengths:
        for number, first, at, by_chance in _unlikely(series, length, starts, level / count, least):
            inside = any(first < other < first + length for other in found[number])
            if not inside and _is_change(series[number], first, at, first + length, least):
                found[number][at] = min(1.0, by_chance * count)
    return found


def _told(values: Doubles, found: Mapping[int, float], least: float) -> list[LevelChange]:
    """The changes that are found, between the levels on both sides."""
    edges = [0, *sorted(found), values.size]
    told = []
    for start, at, stop in zip(edges, edges[1:], edges[2:], strict=False):
        before, after = values[start:at], values[at:stop]
        sides = median(before), median(after)
        error = math.sqrt(_variance(before) / before.size + _variance(after) / after.size)
        told.append(LevelChange(at, *sides, error, found[at]))
    return [change for change in told if abs(change.size) >= least]


def _intervals(count: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Length, and first values, of the intervals of each length, the shortest first."""
    lengths = [count]
    while lengths[-1] > SHORTEST:
        lengths.append(max(SHORTEST, -(-lengths[-1] // 2)))
    for length in reversed(lengths):
        number = 1 + math.ceil(2 * (count - length) / length)
        starts = np.linspace(0, count - length, number).round().astype(np.int64)
        yield length, starts[np.diff(starts, prepend=-1) > 0]  # `np.unique` loads `numpy.ma`


def _unlikely(
    series: Doubles, length: int, starts: NDArray[np.int64], level: float, least: float
) -> Iterator[tuple[int, int, int, float]]:
    """Intervals with a place where means differ by enough, which chance gives with `level` at most.

    Of each the number of its series, its first value, the place, and the chance of one in it.
    """
    held = sliding_window_view(series, length, axis=1)[:, starts].reshape(-1, length)
    side = min(LEAST_SIDE, length // 4)
    places = np.arange(side, length - side + 1)
    sums = np.cumsum(held, axis=1)
    before = sums[:, side - 1 : length - side]
    means = (sums[:, -1:] - before) / (length - places) - before / places
    apart = np.flatnonzero(np.abs(means).max(axis=1) >= least)
    if not apart.size:
        return
    ranks = _ranks(held[apart])
    excess = np.cumsum(ranks - (length + 1) / 2, axis=1)[:, places - 1]
    at = places[np.argmax(np.abs(excess) / np.sqrt(places * (length - places)), axis=1)]
    by_chance = chance(self_normalized(ranks, at))
    for index in np.flatnonzero(by_chance <= level).tolist():
        number, interval = divmod(int(apart[index]), starts.size)
        first = int(starts[interval])
        yield number, first, first + int(at[index]), float(by_chance[index])


def _is_change(values: Doubles, first: int, at: int, last: int, least: float) -> bool:
    """Whether an interval changes its level at a place for certain, suddenly, and as nowhere else."""
    before, after = values[first:at], values[at:last]
    size = median(after) - median(before)
    if abs(size) < least or not _is_evident(before, after):
        return False
    sudden = _is_sudden(values[first:last], at - first, size)
    return sudden and _stands_out(values, at, min(at - first, last - at), size)


def _is_evident(before: Doubles, after: Doubles) -> bool:
    count = before.size + after.size
    left = np.concatenate([before - before.mean(), after - after.mean()])
    plain = float(np.square(left).mean())
    if not plain > 0:
        return True
    carried = _variance(left) / plain
    weight = before.size * after.size / count
    evidence = float(after.mean() - before.mean()) ** 2 * weight
    return count >= CARRIED * carried and evidence >= EVIDENCE * plain * carried


def _is_sudden(held: Doubles, at: int, size: float) -> bool:
    before, after = held[:at], held[at:]
    of_line = float(np.square(held - _line(held, np.arange(held.size))).sum())
    of_step = float(np.square(before - before.mean()).sum() + np.square(after - after.mean()).sum())
    if of_step > 0:
        left = np.concatenate([before - before.mean(), after - after.mean()])
        carried = _variance(left) / float(np.square(left).mean())
        if not of_line > 0 or held.size / carried * math.log(of_line / of_step) < STEP_OVER_LINE:
            return False
    ends = _line(before, np.array([before.size - 0.5])), _line(after, np.array([-0.5]))
    return float(ends[1][0] - ends[0][0]) * math.copysign(1.0, size) >= APART * abs(size)


def _stands_out(values: Doubles, at: int, width: int, size: float) -> bool:
    if values.size < ELSEWHERE * width:
        return True
    sums = np.append(0.0, np.cumsum(values))
    places = np.arange(width, values.size - width + 1)
    apart = np.abs(sums[places + width] - 2 * sums[places] + sums[places - width]) / width
    elsewhere = apart[np.abs(places - at) >= width]
    # The median of absolute values of a normal variable, by which its standard deviation is known.
    typical = 1.4826 * median(elsewhere) if elsewhere.size else 0.0
    return abs(size) >= ALL_ALONG * typical


def _variance(values: Doubles) -> float:
    """The long-run variance of one value, at least that of values that don't hang together."""
    plain = float(values.var())
    if values.size < LEAST_SIDE or not plain > 0:
        return plain
    return max(plain, float(flat_top_variance(values[None], np.zeros(1))[0][0]))


def _line(values: Doubles, at: NDArray[np.floating] | NDArray[np.integer]) -> Doubles:
    """The line through (n,) values by least squares, at some places."""
    middle = (values.size - 1) / 2
    places = np.arange(values.size) - middle
    squares = float(np.square(places).sum())
    slope = float(places @ values) / squares if squares > 0 else 0.0
    return np.asarray(values.mean() + slope * (at - middle))


def _ranks(rows: Doubles) -> Doubles:
    """(m, n) ranks within rows, from 1 on, the mean of theirs where values are equal."""
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    new = np.ones(rows.shape, dtype=np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.ones_like(new)
    ends[:, :-1] = new[:, 1:]
    at = np.arange(rows.shape[1])
    first = np.maximum.accumulate(np.where(new, at, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, at, at.size)[:, ::-1], axis=1)[:, ::-1]
    found = np.empty_like(rows)
    np.put_along_axis(found, order, 1 + (first + last) / 2, axis=1)
    return found
