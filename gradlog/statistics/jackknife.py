"""What the scatter of a sketch's groups of sums says of errors.

Each of the s groups is an independent sketch: leaving one out in turn gives jackknife standard errors of sums
and of their ratios (Efron, Tibshirani 1993, chapter 11), for heavy coordinates too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def standard_errors(totals: Doubles, groups: Doubles, figures: Callable[[Doubles], Doubles]) -> Doubles:
    """Jackknife standard errors of `figures(totals)`; NaN where one is.

    totals : (columns,) sums; groups : (s, columns), each group's share of what is estimated of them
    """
    count = len(groups)
    estimated = groups.sum(axis=0)
    left_out = totals - estimated + (estimated - groups) * (count / (count - 1))
    values = np.stack([figures(row) for row in left_out])
    spread = values - values.mean(axis=0)
    errors: Doubles = np.sqrt((count - 1) / count * np.sum(spread**2, axis=0))
    return errors
