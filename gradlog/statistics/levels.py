"""Levels of a tensor's gradient norms over training: what is typical, and where a quiet tail begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .medians import median

Doubles = NDArray[np.float64]

NEARLY = 1e-4
"""Of the typical level: below it a gradient is next to none."""
PIECES = 8
LEAST_TAIL = 8
LEAST_SHARE = 0.02
"""Fewer bins at the end, or a smaller share of them, are no tail."""


def typical_level(level: Doubles) -> float:
    """The largest median of the eighths of a run, of its bins that are not zero; 0 where all are.

    A long quiet tail doesn't pull it down, and a few spikes don't push it up.
    """
    pieces = np.array_split(level, min(PIECES, max(1, level.size)))
    medians = [median(piece[piece > 0]) for piece in pieces if (piece > 0).any()]
    return max(medians, default=0.0)


def quiet_since(level: Doubles, limit: float) -> int | None:
    """First of the bins at the end that are all at most `limit`; None where too few are, or all."""
    loud = np.flatnonzero(level > limit)
    if not loud.size:
        return None
    since = int(loud[-1]) + 1
    tail = level.size - since
    return since if tail >= max(LEAST_TAIL, LEAST_SHARE * level.size) else None


def quiet_tail(level: Doubles) -> tuple[int, float] | None:
    """First of the bins at the end that are all 0, or below NEARLY of the typical level, and what is left.

    level : (n,) root mean squares of ||g_t||, not all 0. What is left is the largest level from there on as a
    share of the typical one, 0 where all are 0
    """
    if level[-1] > NEARLY * level.max():  # as of most tensors: a typical level is no more than the largest
        return None
    typical = typical_level(level)
    for limit in (0.0, NEARLY):
        since = quiet_since(level, limit * typical)
        if since is not None:
            return since, float(level[since:].max() / typical)
    return None
