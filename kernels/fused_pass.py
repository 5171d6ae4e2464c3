"""One pass over a block of gradients: energies, inner products and predictor residuals, row by row.

A predictor is a weighted sum of *history vectors*: lagged gradients g_{t-1} .. g_{t-L} and exponential
averages s_t = B s_{t-1} + (1 - B) g_{t-1}. The pass keeps that history for a panel of columns at a time
(it stays in the processor's first cache), so that every gradient entry is read from memory once,
whatever the number of predictors. All sums and all states are float64: a logged 7e37 is finite, and its
square is not in float32; a residual of 1e-4 of the gradient would drown in float32 rounding of the state.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .c_function import WITHOUT_JIT, c_function
from .pass_layout import PANEL, ROW, history_rows, sum_columns

Doubles = NDArray[np.float64]
Gradients = NDArray[np.floating[Any]]


def fused_pass(
    block: Gradients,
    first: int,
    last: int,
    start: int,
    history: Doubles,
    lags: int,
    decays: Doubles,
    weights: Doubles,
    sums: Doubles,
    replace: bool,
) -> None:
    """Add the sums of rows t = start .. start + T - 1 over columns first .. last - 1 to `sums`.

    Parameters
    ----------
    block : (T, W) float32 or float64, C order. With `replace`, its entries become the increments
        g_t - g_{t-1} in place (zeros at t = 0).
    first, last : columns to handle, 0 <= first < last <= W
    start : index t of the block's first row
    history : (panels, L + 1 + E + 1, ROW) float64 from `new_history`; carried to the next block in time. A
        single panel serves all columns where none is carried on: start = 0
    lags : L >= 1, gradients that the ring remembers
    decays : (E,) float64, decay B of each average
    weights : (P, T, L + E) float64: m_t of predictor p is the sum of its weights times the history vectors
        (g_{t-1}, ..., g_{t-L}, s_1, ..., s_E)
    sums : (T, PREDICTORS + 3 P) float64, added to; the columns are those of `pass_layout`
    """
    ways = np.empty((block.shape[0], weights.shape[0] + decays.size + 2), np.int64)
    if WITHOUT_JIT:
        from .fused_pass_jit import fused_sums

        fused_sums(block, first, last, start, history, lags, decays, weights, sums, ways, replace)
        return
    rows, columns = block.shape
    predictors = weights.shape[0]
    averages = decays.size
    for array, shape in (
        (block, (rows, columns)),
        (history, (history.shape[0], history_rows(lags, averages), ROW)),
        (decays, (averages,)),
        (weights, (predictors, rows, lags + averages)),
        (sums, (rows, sum_columns(predictors))),
    ):
        if array.shape != shape or not array.flags.c_contiguous:
            raise ValueError(f"an array of shape {array.shape} should be {shape}, in C order")
    if history.shape[0] != -(-(last - first) // PANEL) and (start or history.shape[0] != 1):
        raise ValueError(
            f"a history of {history.shape[0]} panels for columns {first} to {last} from row {start}"
        )
    if not 0 <= first < last <= columns:
        raise ValueError(f"columns {first} to {last} of {columns}")
    compile_fused_pass(block.dtype)(
        block.ctypes.data, rows, columns, first, last, start,
        history.ctypes.data, history.shape[0], history.shape[1], lags, decays.ctypes.data, averages,
        weights.ctypes.data, predictors, sums.ctypes.data, sums.shape[1], ways.ctypes.data, replace,
    )  # fmt: skip


def compile_fused_pass(dtype: np.dtype[np.floating[Any]] | type[np.floating[Any]]) -> Any:
    """The C function for blocks of `dtype`, from the cache or compiled: once for all processes."""
    if WITHOUT_JIT:
        return None
    return c_function("fused_pass", np.dtype(dtype), _ARGUMENTS, ("pass_layout", "row_sums", "prefetch"))


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = (
    _POINTER, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _SIZE, _SIZE,
    _POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE,
)  # fmt: skip
