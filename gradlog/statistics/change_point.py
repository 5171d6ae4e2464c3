"""Whether a series has a new mean from some row on, however its values hang together.

The statistic of Shao and Zhang (2010, self-normalized): with S_t the sums of x_1 .. x_t and D the excess
(S_k - (k / n) S_n) / sqrt(n) of what lies before k, G = D^2 / V, and V the mean square of the like bridges
within either side, over n. Series that resemble their neighbours inflate both alike: no memory has to be
known. Without units, at least 0. Its largest value over k passes `limit` with the probability that is named.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

OFFSET, SLOPE = 2.63, 1.22


def self_normalized(values: Doubles, begin: int | NDArray[np.int64]) -> Doubles:
    """(...) G of a change at index `begin` (...) of (..., n) values, 0 < begin < n.

    Infinite where neither side varies.
    """
    count = values.shape[-1]
    begin = np.asarray(begin)[..., None]
    earlier = np.arange(count) < begin
    before, after = (np.where(side, values, 0.0).sum(axis=-1, keepdims=True) for side in (earlier, ~earlier))
    excess = np.square(before - begin / count * (before + after))[..., 0] / count
    means = np.where(earlier, before / begin, after / (count - begin))
    # What lies behind k adds up to 0, as what lies before: sums from either end are the same.
    spread = np.square(np.cumsum(values - means, axis=-1)).sum(axis=-1) / count**2
    # Sums of equal values leave rounding behind.
    least = 1e-24 * np.square(values).sum(axis=-1)
    unvarying = np.where(excess > least, np.inf, 0.0)
    return np.asarray(np.divide(excess, spread, out=unvarying, where=spread > least))


def limit(level: float) -> float:
    """What the largest G of any k passes with probability `level`, at most 0.1, where nothing changes.

    The published quantiles at 0.1 .. 0.001 (29.6, 40.1, 52.2, 68.6, 84.6, 121.9) to 3 percent, and past them
    by the same line: their roots are linear in the logarithm of the level.
    """
    return (OFFSET + SLOPE * math.log(1 / level)) ** 2


def chance(statistic: Doubles) -> Doubles:
    """The probability with which the largest G passes `statistic`, at most 1: `limit` the other way round."""
    return np.asarray(np.minimum(1.0, np.exp(-(np.sqrt(statistic) - OFFSET) / SLOPE)))
