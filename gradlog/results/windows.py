"""Figures of windows of training: which rows a window has, and what stands in a result of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..quick_dataclass import dataclass

Doubles: TypeAlias = NDArray[np.float64]
Layout: TypeAlias = int | tuple[int, int]
"""So many windows of about as many rows each; or rows of one, and from its start to that of the next."""
MOST_WINDOWS = 10_000


@dataclass(frozen=True)
class ScopeWindows:
    """Figures of one scope in each of W windows, float64; NaN where there is none.

    energy : (W,) sum of ||g_t||^2 over the rows of the window
    kappa, scaled_kappa : of each predictor (W,), over those rows, with predictions made from all rows before
    reference : of each predictor (W,), kappa that independent noise of the same norms has there
    rank : of each epsilon (W,), r* of the increments between rows of the window: what an analysis of those
        rows alone gives; empty where increments were not multiplied
    rank_reference : of each epsilon (W,), of noise; empty for tensors
    """

    energy: Doubles
    kappa: Mapping[str, Doubles]
    scaled_kappa: Mapping[str, Doubles]
    reference: Mapping[str, Doubles]
    rank: Mapping[float, Doubles] = field(default_factory=dict)
    rank_reference: Mapping[float, Doubles] = field(default_factory=dict)


@dataclass(frozen=True)
class Windows:
    """Figures of windows of training.

    rows : (W, 2) int64, first and last + 1 of the rows that were analyzed
    step : (W, 2) int64, training steps of the first and of the last row
    total, tensors : of the whole model, and of each tensor in the order of the result's
    """

    rows: NDArray[np.int64]
    step: NDArray[np.int64]
    total: ScopeWindows
    tensors: Sequence[ScopeWindows]


def window_rows(layout: Layout, rows: int) -> NDArray[np.int64]:
    """(W, 2) int64: first and last + 1 of the rows of each window.

    Of K windows the first ones have a row more where K doesn't divide the rows, and no window is empty. Of
    windows of given rows the last may have fewer; it has half of them at least, or is left out.

    Raises UsageError for a layout that makes none, or too many.
    """
    if isinstance(layout, int):
        if layout < 1:
            raise UsageError(f"{layout} windows: there must be at least 1")
        edges = np.linspace(0, rows, min(layout, rows) + 1).round().astype(np.int64)
        found = np.stack([edges[:-1], edges[1:]], axis=1)
    else:
        size, stride = layout
        if size < 2 or stride < 1:
            raise UsageError(
                f"windows of {size} rows, {stride} apart: a window has 2 rows, and moves on by 1"
            )
        first = np.arange(0, rows, stride, dtype=np.int64)
        found = np.stack([first, np.minimum(first + size, rows)], axis=1)
        last = found[:, 1]
        new = np.diff(last, prepend=0) > 0
        found = found[(first == 0) | (new & (2 * (last - first) >= size))]
    if len(found) > MOST_WINDOWS:
        raise UsageError(f"{len(found)} windows: {MOST_WINDOWS} at most; take longer ones")
    return found
