"""Rows of several logs that cover the same training steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError


def shared_rows(steps: Sequence[NDArray[np.int64]], names: Sequence[str]) -> list[tuple[int, int]]:
    """For each run (first, last + 1) row within the training steps that all runs span.

    steps : of each run (N,), training step numbers that never decrease

    Raises DataError where steps decrease, or where there are none in common.
    """
    for step, name in zip(steps, names, strict=True):
        back = np.flatnonzero(np.diff(step) < 0)
        if back.size:
            row = int(back[0]) + 1
            raise DataError(
                f"{name}: row {row} is step {step[row]}, after step {step[row - 1]}: steps that go back "
                "cannot be aligned; --repeated last takes the last row of each step, --rows chooses rows"
            )
    first = max(int(step[0]) for step in steps)
    last = min(int(step[-1]) for step in steps)
    found = [
        (int(np.searchsorted(step, first, side="left")), int(np.searchsorted(step, last, side="right")))
        for step in steps
    ]
    if first > last or any(a >= b for a, b in found):
        spans = ", ".join(f"{name} {step[0]} to {step[-1]}" for step, name in zip(steps, names, strict=True))
        raise DataError(f"no training step in common: {spans}; --align fraction needs none")
    return found
