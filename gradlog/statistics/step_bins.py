"""Bins of consecutive rows: how finely per-step sums are kept and compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 1024
"""Bins of a run, beside the first row's own. Up to here a bin is a row."""


def bin_edges(rows: int, most: int = MOST_BINS) -> NDArray[np.int64]:
    """(bins + 1,) int64: first row of each bin, then `rows`. Row 0, which nothing predicts, stays apart.

    most : bins beside row 0
    """
    width = bin_width(rows, most)
    return np.append(np.insert(np.arange(1, rows, width, dtype=np.int64), 0, 0), rows)


def bins_of_rows(edges: NDArray[np.int64], start: int, stop: int) -> tuple[int, NDArray[np.int64] | None]:
    """The first bin of rows start .. stop - 1, and where among them each bin starts; None where a row is one.

    edges : (bins + 1,), as of `bin_edges`; start < stop
    """
    first = int(np.searchsorted(edges, start, side="right")) - 1
    last = int(np.searchsorted(edges, stop, side="left"))
    return first, None if last - first == stop - start else np.maximum(edges[first:last] - start, 0)


def bin_width(rows: int, most: int = MOST_BINS) -> int:
    """Rows of each bin but the first and the last."""
    return max(1, -(-(rows - 1) // most))


def tensor_series_bytes(tensors: int, rows: int, predictors: int) -> int:
    """Bytes of the per-step sums of `tensors` tensors, with the copy that is handed out."""
    return 8 * tensors * 2 * min(rows, MOST_BINS + 1) * (2 * predictors + 1)
