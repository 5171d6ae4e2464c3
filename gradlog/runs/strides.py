"""Logs whose rows are more than a training step apart: what history foretells there, and the warning of it.

Gradients of every k-th step are samples, so that every figure is of those rows. For an AR(1) of coefficient
phi one-step has kappa 2 (1 - phi^k): 0.10 at phi = 0.95 where every step is logged, 0.45 at every fifth, 1.43
at every 25th. Nothing in the rows tells what it would be at every step.

Updates over k steps leave no step out: each is a sum. Of the same AR(1) one-step has kappa 2 (1 - r), with r
= phi (1 - phi^k)^2 / (k (1 - phi^2) - 2 phi (1 - phi^k)) the correlation of sums: 0.31 at five steps, 1.07 at
25. Nothing in the sums tells what it would be of single steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..results.result import LogWarning
from ..results.row_kind import OF_GRADIENTS, RowKind

STRIDED = "steps-strided"
SUMMED = "updates-summed"
SHARE = 0.1
"""Of rows that are more than a step past the one before: fewer are gaps, as where a run was resumed."""


def stride_of(step: NDArray[np.int64]) -> int:
    """Training steps from a row to the next, 1 where every step was logged.

    step : (N,) training steps of the rows. The largest k that at least a tenth of rows are apart by.
    """
    if step.size < 2:
        return 1
    return max(1, int(np.quantile(np.diff(step), 1 - SHARE, method="lower")))


def stride_warnings(step: NDArray[np.int64], kind: RowKind = OF_GRADIENTS) -> list[LogWarning]:
    """Code "steps-strided" where steps were left out between rows, "updates-summed" where rows are sums.

    step : (N,) training steps of the rows; kind : what the rows are
    """
    stride = stride_of(step)
    even = bool((np.diff(step) == stride).all())
    apart = f"{'' if even else 'up to '}{stride} training steps"
    if kind.of_updates:
        return _of_updates(stride, apart, kind.every)
    if stride == 1:
        return []
    return [
        LogWarning(
            STRIDED,
            f"rows are {apart} apart: every figure is of these rows, and kappa from step to step may be far "
            "lower (AR(.95): 0.10, and 0.45 at every 5th step)",
        )
    ]


def _of_updates(stride: int, apart: str, every: int | None) -> list[LogWarning]:
    """every : training steps that each update spans; None where that is as many as rows are apart"""
    if every is not None and stride > every:
        return [
            LogWarning(
                STRIDED,
                f"rows are {apart} apart, and an update spans {every}: every figure is of these rows, and "
                "kappa from update to update may be far lower (AR(.95): 0.10, and 0.45 at every 5th)",
            )
        ]
    if (every or stride) == 1:
        return []
    steps = apart if every is None else f"{every} training steps"
    return [
        LogWarning(
            SUMMED,
            f"each update is the sum of {steps}: every figure is of these sums, and tells nothing of single "
            "steps (AR(.95): kappa 0.10, and 0.31 of sums of 5); compare runs of equally long ones",
        )
    ]
