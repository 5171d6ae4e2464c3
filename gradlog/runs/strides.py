"""Logs that hold every k-th training step: what history foretells there, and the warning that says so.

From row to row gradients are k training steps apart, so that every figure is of those rows. For an AR(1) of
coefficient phi one-step has kappa 2 (1 - phi^k): 0.10 at phi = 0.95 where every step is logged, 0.45 at every
fifth, 1.43 at every 25th. Nothing in the rows tells what it would be at every step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..results.result import LogWarning

STRIDED = "steps-strided"
SHARE = 0.1
"""Of rows that are more than a step past the one before: fewer are gaps, as where a run was resumed."""


def stride_of(step: NDArray[np.int64]) -> int:
    """Training steps from a row to the next, 1 where every step was logged.

    step : (N,) training steps of the rows. The largest k that at least a tenth of rows are apart by.
    """
    if step.size < 2:
        return 1
    return max(1, int(np.quantile(np.diff(step), 1 - SHARE, method="lower")))


def stride_warnings(step: NDArray[np.int64]) -> list[LogWarning]:
    """Code "steps-strided", where rows are more than one training step apart. step : (N,)"""
    stride = stride_of(step)
    if stride == 1:
        return []
    even = bool((np.diff(step) == stride).all())
    return [
        LogWarning(
            STRIDED,
            f"rows are {'' if even else 'up to '}{stride} training steps apart: every figure is of these "
            "rows, and kappa from step to step may be far lower (AR(.95): 0.10, and 0.45 at every 5th step)",
        )
    ]
