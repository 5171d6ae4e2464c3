"""Training steps that stand twice in a log: a run that went on from a checkpoint logged them again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

REPEATED = ("keep", "first", "last", "fail")
"""What can be asked for: rows in their order, the first or the last row of each step, or an error."""


def kept_rows(path: str, step: NDArray[np.int64], policy: str) -> NDArray[np.bool_] | None:
    """Which rows enter an analysis; None for all.

    "last" keeps a row where no later one has its step or an earlier one: what was done after the last
    checkpoint that the run went on from. "first" keeps a row whose step is past those of all rows before.

    step : (rows,) training steps in the order of the rows; policy : one of REPEATED

    Raises DataError under "fail" where steps don't increase.
    """
    if policy == "keep" or step.size < 2:
        return None
    if policy == "first":
        before = np.maximum.accumulate(step)
        keep = np.concatenate([[True], step[1:] > before[:-1]])
    else:
        after = np.minimum.accumulate(step[::-1])[::-1]
        keep = np.concatenate([step[:-1] < after[1:], [True]])
    if bool(keep.all()):
        return None
    if policy == "fail":
        at = int(np.argmax(np.diff(step) <= 0)) + 1
        raise DataError(
            f"{path}: row {at} has training step {step[at]} after {step[at - 1]}: --repeated last takes the "
            "last row of each step, first the first, keep all rows in their order"
        )
    return keep
