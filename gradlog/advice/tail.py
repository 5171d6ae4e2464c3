"""What a heavy tail gives by itself: how far the largest of some values may stand off the others.

Where values have an exponential tail, i (y_(i) - y_(i+1)) of the ordered values y_(1) >= y_(2) >= .. are
independent and exponential with one mean (Renyi 1953), so that one of them over the mean of the k behind it
exceeds t with probability (1 + t / k)^-k. Logarithms of norms have such a tail where norms have a power law,
as Student's t; of lighter tails, as lognormal ones, values stand off less. Every count j of values that may
stand off is tried, at a share 1 / (j (j + 1)) of the level.
"""

from __future__ import annotations

import numpy as np

from .decision import Doubles

LEAST_BEHIND, MOST_BEHIND = 16, 40
"""Values that a tail is learned from: between these a tenth of all."""
LEAST_VALUES = LEAST_BEHIND + 2
MOST_APART = 10
"""At most one of so many values stands off, of 3 and more."""


def standing_off(values: Doubles, level: float) -> tuple[int, float]:
    """How many of the largest values stand off the tail of the others, and the least that would.

    values : (n,); level : the probability with which any would in such a tail by itself. The limit is that of
    the smallest of those that stand off, of the largest value where none does; infinite where there are too
    few values
    """
    ordered = np.sort(values)[::-1]
    count = ordered.size
    behind = max(LEAST_BEHIND, min(count // 10, MOST_BEHIND))
    most = min(max(3, count // MOST_APART), count - 1 - behind)
    found, limit = 0, np.inf
    if most < 1:
        return found, limit
    ranks = np.arange(1, most + 1)
    spacings = np.arange(1, count) * (ordered[:-1] - ordered[1:])
    sums = np.append(0.0, np.cumsum(spacings))
    means = (sums[ranks + behind] - sums[ranks]) / behind
    farthest = behind * ((level / (ranks * (ranks + 1.0))) ** (-1 / behind) - 1)
    limits = ordered[ranks] + means * farthest / ranks
    apart = np.flatnonzero(ordered[ranks - 1] > limits)
    found = int(apart[-1]) + 1 if apart.size else 0
    return found, float(limits[max(found, 1) - 1])
