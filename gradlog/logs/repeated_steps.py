"""Training steps that repeat or go back: a run that went on from a checkpoint logged them again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..results.result import LogWarning

REPEATED = ("fail", "last", "first", "keep")
"""What can be asked for: an error, the last or the first row of each step, or all rows in their order."""
NOT_INCREASING = "steps-not-increasing"
UNWRITTEN = "rows-unwritten"
SETTLED = "steps-repeated"
"""Codes of warnings: steps do not increase, rows were made beforehand, rows of repeated steps left out."""


def kept_rows(path: str, step: NDArray[np.int64], policy: str, first: int = 0) -> NDArray[np.bool_] | None:
    """Which rows enter an analysis, (rows,) bool; None for all.

    "last" keeps a row where no later one has its step or an earlier one: what was done after the last
    checkpoint that the run went on from. "first" keeps a row whose step is past those of all rows before.

    Parameters
    ----------
    path : of the log, for the error
    step : (rows,) training steps in the order of the rows
    policy : one of REPEATED
    first : number of the first of these rows in the log

    Raises DataError under "fail" where steps do not increase.
    """
    if policy == "keep" or step.size < 2:
        return None
    if policy == "fail":
        fault = step_fault(step, first)
        if fault is not None:
            raise DataError(f"{path}: {fault.message}")
        return None
    if policy == "first":
        before = np.maximum.accumulate(step)
        keep = np.concatenate([[True], step[1:] > before[:-1]])
    else:
        after = np.minimum.accumulate(step[::-1])[::-1]
        keep = np.concatenate([step[:-1] < after[1:], [True]])
    return None if bool(keep.all()) else keep


def step_fault(step: NDArray[np.int64], first: int = 0) -> LogWarning | None:
    """Where training steps first do not increase, and what can be done; None where they do.

    step : (rows,) in the order of the rows; first : number of the first of these rows in the log
    """
    back = np.flatnonzero(step[1:] <= step[:-1]) + 1
    if not back.size:
        return None
    at = int(back[0])
    row = first + at
    if step[at - 1] > 0 and not step[at:].any():
        rows = f"row {row} has" if step.size - at == 1 else f"rows {row}-{first + step.size - 1} have"
        told = (
            f"{rows} training step 0, after step {step[at - 1]}: rows made beforehand and never written? "
            f"--rows {first or ''}:{row} leaves them out, --repeated keep takes them"
        )
        return LogWarning(UNWRITTEN, told)
    told = (
        f"row {row} has training step {step[at]} after {step[at - 1]}: a resumed run may have logged steps "
        "twice; --repeated last takes the last row of each step, first the first, keep all in their order"
    )
    return LogWarning(NOT_INCREASING, told)
