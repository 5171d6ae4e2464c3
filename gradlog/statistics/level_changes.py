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
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .change_point import chance, self_normalized
from .long_run_variance import flat_top_variance

Doubles = NDArray[np.float64]

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


def level_changes(values: Doubles, level: float, least: float) -> list[LevelChange]:
    """The changes of level of a series, in its order. See the module.

    values : (n,) float64, finite, such as logarithms of norms
    level : the probability with which a series that keeps its level may show any
    least : difference of levels, in the values' unit, that counts
    """
    if values.size < LEAST_VALUES:
        return []
    intervals = list(_intervals(values.size))
    found: dict[int, float] = {}
    for first, last in intervals:
        if any(first < at < last for at in found):
            continue
        one = _change(values, first, last, level / len(intervals), least)
        if one is not None:
            found[one[0]] = min(1.0, one[1] * len(intervals))
    edges = [0, *sorted(found), values.size]
    told = []
    for start, at, stop in zip(edges, edges[1:], edges[2:], strict=False):
        before, after = values[start:at], values[at:stop]
        sides = np.median(before), np.median(after)
        error = math.sqrt(_variance(before) / before.size + _variance(after) / after.size)
        told.append(LevelChange(at, float(sides[0]), float(sides[1]), error, found[at]))
    return [change for change in told if abs(change.size) >= least]


def _intervals(count: int) -> Iterator[tuple[int, int]]:
    """First and last + 1 of the values of each, the shortest first."""
    lengths = [count]
    while lengths[-1] > SHORTEST:
        lengths.append(max(SHORTEST, -(-lengths[-1] // 2)))
    for length in reversed(lengths):
        number = 1 + math.ceil(2 * (count - length) / length)
        for start in np.unique(np.linspace(0, count - length, number).round().astype(np.int64)).tolist():
            yield start, start + length


def _change(values: Doubles, first: int, last: int, level: float, least: float) -> tuple[int, float] | None:
    """Where an interval changes its level, and the chance of one in it."""
    held = values[first:last]
    count = held.size
    side = min(LEAST_SIDE, count // 4)
    places = np.arange(side, count - side + 1)
    sums = np.cumsum(held)
    means = (sums[-1] - sums[places - 1]) / (count - places) - sums[places - 1] / places
    if np.abs(means).max() < least:
        return None
    ranks = _ranks(held)
    excess = np.cumsum(ranks - ranks.mean())[places - 1]
    at = int(places[np.argmax(np.abs(excess) / np.sqrt(places * (count - places)))])
    by_chance = chance(self_normalized(ranks, at))
    if by_chance > level:
        return None
    before, after = held[:at], held[at:]
    size = float(np.median(after) - np.median(before))
    if abs(size) < least or not _is_evident(before, after) or not _is_sudden(held, at, size):
        return None
    if not _stands_out(values, first + at, min(at, count - at), size):
        return None
    return first + at, by_chance


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
    typical = 1.4826 * float(np.median(elsewhere)) if elsewhere.size else 0.0
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


def _ranks(values: Doubles) -> Doubles:
    """(n,) ranks, the mean of theirs where values are equal."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[at])
