"""One pass over a block of gradients: energies, inner products and predictor residuals, row by row.

A predictor is a weighted sum of *history vectors*: lagged gradients g_{t-1} .. g_{t-L} and exponential
averages s_t = B s_{t-1} + (1 - B) g_{t-1}. The pass keeps that history for a tile of columns at a time
(it stays in the processor's first cache), so that every gradient entry is read from memory once,
whatever the number of predictors. All sums and all states are float64: a logged 7e37 is finite, and its
square is not in float32; a residual of 1e-4 of the gradient would drown in float32 rounding of the state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import compile_lock, kernel

Doubles = NDArray[np.float64]
Gradients = NDArray[np.floating[Any]]

TILE = 1024
"""Columns handled together: a float64 history of a dozen vectors of this length fits the first cache."""

ENERGY = 0
"""Column of `sums`: ||g_t||^2."""
LAG_PRODUCT = 1
"""Column of `sums`: <g_t, g_{t-1}>, 0 at t = 0."""
INCREMENT = 2
"""Column of `sums`: ||g_t - g_{t-1}||^2, 0 at t = 0."""
NONFINITE = 3
"""Column of `sums`: number of entries that are NaN or infinite."""
NONZERO_TINY = 4
"""Column of `sums`: nonzero entries of rows with ||g_t||^2 below TINY, whose squares may have lost digits."""
TINY = 1e-280
PREDICTORS = 5
"""First column of `sums` that belongs to predictors: three each, see the next constants."""
RESIDUAL, PRODUCT, PREDICTION = 0, 1, 2
"""Offsets in a predictor's three columns: ||g_t - m_t||^2, <g_t, m_t>, ||m_t||^2."""


def sum_columns(predictors: int) -> int:
    """Number of columns of `sums` for that many predictors."""
    return PREDICTORS + 3 * predictors


def history_rows(lags: int, averages: int) -> int:
    """Rows of `history` for L lags and E averages: a ring of L + 1 gradients, E averages, one scratch row."""
    return lags + 1 + averages + 1


def new_history(columns: int, lags: int, averages: int) -> NDArray[np.float64]:
    """Empty history (tiles, L + 1 + E + 1, TILE) float64 for `columns` parameters, at t = 0."""
    tiles = -(-columns // TILE)
    return np.zeros((tiles, history_rows(lags, averages), TILE))


@kernel
def _load(row: Gradients, gradient: Doubles) -> float:
    energy = 0.0
    for j in range(row.size):
        value = np.float64(row[j])
        gradient[j] = value
        energy += value * value
    return energy


@kernel
def _count_nonfinite(gradient: Doubles) -> int:
    count = 0
    for j in range(gradient.size):
        if not math.isfinite(gradient[j]):
            count += 1
    return count


@kernel
def _count_nonzero(gradient: Doubles) -> int:
    count = 0
    for j in range(gradient.size):
        if gradient[j] != 0.0:
            count += 1
    return count


@kernel
def _lag_sums(gradient: Doubles, previous: Doubles) -> tuple[float, float, float]:
    product = 0.0
    increment = 0.0
    energy = 0.0
    for j in range(gradient.size):
        difference = gradient[j] - previous[j]
        product += gradient[j] * previous[j]
        increment += difference * difference
        energy += previous[j] * previous[j]
    return product, increment, energy


@kernel
def _lag_sums_and_increments(
    row: Gradients, gradient: Doubles, previous: Doubles
) -> tuple[float, float, float]:
    product = 0.0
    increment = 0.0
    energy = 0.0
    for j in range(gradient.size):
        difference = gradient[j] - previous[j]
        row[j] = difference
        product += gradient[j] * previous[j]
        increment += difference * difference
        energy += previous[j] * previous[j]
    return product, increment, energy


@kernel
def _residual_sums(gradient: Doubles, prediction: Doubles) -> tuple[float, float, float]:
    residual = 0.0
    product = 0.0
    energy = 0.0
    for j in range(gradient.size):
        difference = gradient[j] - prediction[j]
        residual += difference * difference
        product += gradient[j] * prediction[j]
        energy += prediction[j] * prediction[j]
    return residual, product, energy


@kernel
def _average_sums(gradient: Doubles, average: Doubles, keep: float) -> tuple[float, float, float]:
    """The sums of `_residual_sums` for an exponential average, which takes the gradient in on the way."""
    residual = 0.0
    product = 0.0
    energy = 0.0
    gain = 1.0 - keep
    for j in range(gradient.size):
        difference = gradient[j] - average[j]
        residual += difference * difference
        product += gradient[j] * average[j]
        energy += average[j] * average[j]
        average[j] = keep * average[j] + gain * gradient[j]
    return residual, product, energy


@kernel
def _weigh(a: float, x: Doubles, b: float, y: Doubles, accumulate: bool, out: Doubles) -> None:
    if accumulate:
        for j in range(out.size):
            out[j] += a * x[j] + b * y[j]
    else:
        for j in range(out.size):
            out[j] = a * x[j] + b * y[j]


@kernel
def _history_vector(history: Doubles, index: int, step: int, lags: int, width: int) -> Doubles:
    """History vector `index`: g_{t-1-index} for index < lags, else average index - lags."""
    if index < lags:
        return history[(step + lags - index) % (lags + 1), :width]
    return history[index + 1, :width]


@kernel
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
    history : (tiles, L + 1 + E + 1, TILE) float64 from `new_history`; carried to the next block in time
    lags : L >= 1, gradients that the ring remembers
    decays : (E,) float64, decay B of each average
    weights : (P, T, L + E) float64: m_t of predictor p is the sum of its weights times the history vectors
        (g_{t-1}, ..., g_{t-L}, s_1, ..., s_E)
    sums : (T, PREDICTORS + 3 P) float64, added to; the columns are this module's constants
    """
    rows = block.shape[0]
    averages = decays.size
    vectors = lags + averages
    owners = np.full(averages, -1)
    for tile in range((last - first + TILE - 1) // TILE):
        left = first + tile * TILE
        right = min(last, left + TILE)
        width = right - left
        past = history[tile]
        scratch = past[lags + 1 + averages, :width]
        for i in range(rows):
            step = start + i
            row = block[i, left:right]
            gradient = past[step % (lags + 1), :width]
            energy = _load(row, gradient)
            sums[i, ENERGY] += energy
            if not math.isfinite(energy):
                sums[i, NONFINITE] += _count_nonfinite(gradient)
            elif energy < TINY:
                sums[i, NONZERO_TINY] += _count_nonzero(gradient)
            product = increment = previous_energy = 0.0
            if step > 0:
                previous = _history_vector(past, 0, step, lags, width)
                if replace:
                    product, increment, previous_energy = _lag_sums_and_increments(row, gradient, previous)
                else:
                    product, increment, previous_energy = _lag_sums(gradient, previous)
                sums[i, LAG_PRODUCT] += product
                sums[i, INCREMENT] += increment
            elif replace:
                row[:] = 0
            for p in range(weights.shape[0]):
                count = 0
                found = 0
                for k in range(vectors):
                    if weights[p, i, k] != 0.0:
                        count += 1
                        found = k
                at = PREDICTORS + 3 * p
                if count == 0:
                    sums[i, at + RESIDUAL] += energy
                    continue
                alone = count == 1 and weights[p, i, found] == 1.0
                if alone and found == 0:  # the last gradient: its sums are there already
                    sums[i, at + RESIDUAL] += increment
                    sums[i, at + PRODUCT] += product
                    sums[i, at + PREDICTION] += previous_energy
                    continue
                if alone and found >= lags and owners[found - lags] < 0:
                    owners[found - lags] = p  # summed below, on the way to the average's next value
                    continue
                if alone:
                    prediction = _history_vector(past, found, step, lags, width)
                else:
                    held = -1
                    accumulate = False
                    for k in range(vectors):
                        if weights[p, i, k] == 0.0:
                            continue
                        if held < 0:
                            held = k
                            continue
                        _weigh(
                            weights[p, i, held],
                            _history_vector(past, held, step, lags, width),
                            weights[p, i, k],
                            _history_vector(past, k, step, lags, width),
                            accumulate,
                            scratch,
                        )
                        accumulate = True
                        held = -1
                    if held >= 0:
                        only = _history_vector(past, held, step, lags, width)
                        _weigh(weights[p, i, held], only, 0.0, gradient, accumulate, scratch)
                    prediction = scratch
                residual, inner, predicted = _residual_sums(gradient, prediction)
                sums[i, at + RESIDUAL] += residual
                sums[i, at + PRODUCT] += inner
                sums[i, at + PREDICTION] += predicted
            for e in range(averages):
                average = past[lags + 1 + e, :width]
                residual, inner, predicted = _average_sums(gradient, average, decays[e])
                if owners[e] >= 0:
                    at = PREDICTORS + 3 * owners[e]
                    sums[i, at + RESIDUAL] += residual
                    sums[i, at + PRODUCT] += inner
                    sums[i, at + PREDICTION] += predicted
                    owners[e] = -1


def compile_fused_pass(dtype: np.dtype[np.floating]) -> None:
    """Load the kernel for blocks of `dtype` from the cache, or compile it: once for all processes."""
    if not hasattr(fused_pass, "compile"):  # NUMBA_DISABLE_JIT
        return
    from numba import boolean, float64, from_dtype, int64

    entry = from_dtype(np.dtype(dtype))
    signature = (
        entry[:, ::1], int64, int64, int64, float64[:, :, ::1], int64, float64[::1],
        float64[:, :, ::1], float64[:, ::1], boolean,
    )  # fmt: skip
    with compile_lock():
        fused_pass.compile(signature)
