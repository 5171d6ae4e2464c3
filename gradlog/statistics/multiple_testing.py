"""Of many differences, which are more than what chance finds among as many.

P values are two-sided, of Student's t. Holm 1979 keeps the chance that any call is false at the level;
Benjamini and Hochberg 1995 the expected share of false ones among the calls, which is the same where nothing
differs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


def student_p(t: float, freedom: float) -> float:
    """Chance of Student's t as large as `t` in size, in [0, 1]; right to 2 percent from freedom 2 on.

    Hill's transformation to a normal variable (1970, algorithm 395).
    """
    a = freedom - 0.5
    b = 48 * a * a
    y = a * math.log1p(t * t / freedom) if math.isfinite(freedom) else t * t
    shift = (((-0.4 * y - 3.3) * y - 24) * y - 85.5) / (0.8 * y * y + 100 + b) + y + 3
    z = (shift / b + 1) * math.sqrt(y) if math.isfinite(b) else math.sqrt(y)
    return math.erfc(z / math.sqrt(2))


def holm(p: Doubles, level: float) -> Flags:
    """(m,) whether each of m hypotheses is rejected, so that any is falsely with chance `level` at most."""
    m = p.size
    order = np.argsort(p, kind="stable")
    # From the least p value on, up to the first that is not small enough.
    passed = np.logical_and.accumulate(p[order] * (m - np.arange(m)) <= level)
    return _placed(passed, order)


def benjamini_hochberg(p: Doubles, level: float) -> Flags:
    """(m,) whether each of m hypotheses is rejected, a share of `level` at most of them falsely."""
    m = p.size
    order = np.argsort(p, kind="stable")
    small = p[order] * m <= level * np.arange(1, m + 1)
    passed = np.arange(m) <= np.flatnonzero(small).max(initial=-1)
    return _placed(passed, order)


def _placed(passed: Flags, order: NDArray[np.int64]) -> Flags:
    found = np.zeros(order.size, dtype=np.bool_)
    found[order] = passed
    return found
