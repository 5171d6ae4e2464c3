"""The Numba side of `fused_pass`: imported only where the kernel is compiled, or runs without the JIT."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import kernel
from .pass_layout import (
    ENERGY,
    INCREMENT,
    LAG_PRODUCT,
    NONFINITE,
    NONZERO_TINY,
    PANEL,
    PREDICTION,
    PREDICTORS,
    PRODUCT,
    RESIDUAL,
    ROW,
    TINY,
)
from .prefetch import LINE, prefetch
from .row_sums import (
    average_sums,
    count_nonfinite,
    count_nonzero,
    load,
    load_lag,
    load_lag_and_increments,
    squared_norm,
    two_averages_sums,
    weigh,
    weighted_sums_2,
    weighted_sums_5,
)

Doubles = NDArray[np.float64]
Gradients = NDArray[np.floating[Any]]


@kernel
def _history_vector(history: Doubles, index: int, slot: int, lags: int, width: int) -> Doubles:
    """History vector `index`: g_{t-1-index} for index < lags, else average index - lags.

    slot : where g_t stands in the ring
    """
    if index >= lags:
        return history[index + 1, :width]
    at = slot - 1 - index
    return history[at if at >= 0 else at + lags + 1, :width]


@kernel
def _weighted_sums(
    weights: Doubles, count: int, past: Doubles, slot: int, lags: int, gradient: Doubles, scratch: Doubles
) -> tuple[float, float, float]:
    """As `weighted_sums_2`, for the history vectors times `weights`, of which `count` are not zero."""
    width = gradient.size
    a = b = c = d = 0.0
    x = y = z = v = gradient
    e = 0.0
    summed = gradient
    held = 0
    left = count
    for k in range(weights.size):
        if weights[k] == 0.0:
            continue
        weight = weights[k]
        vector = _history_vector(past, k, slot, lags, width)
        held += 1
        left -= 1
        if held == 1:
            a, x = weight, vector
        elif held == 2:
            b, y = weight, vector
            if left > 2 and (e != 0.0 or left > 3):  # more than the last pass takes at once
                weigh(a, x, b, y, e != 0.0, scratch)
                e, summed, held = 1.0, scratch, 0
        elif held == 3:
            c, z = weight, vector
        elif held == 4:
            d, v = weight, vector
        else:
            e, summed = weight, vector
    if held <= 2 and e == 0.0:
        return weighted_sums_2(gradient, a, x, b, y)
    return weighted_sums_5(gradient, a, x, b, y, c, z, d, v, e, summed)


@kernel
def fused_sums(
    block: Gradients,
    first: int,
    last: int,
    start: int,
    history: Doubles,
    lags: int,
    decays: Doubles,
    weights: Doubles,
    sums: Doubles,
    owners: NDArray[np.int64],
    replace: bool,
) -> None:
    """As of `fused_pass.fused_pass`. owners : (E,) int64 of -1, left so; scratch memory."""
    rows = block.shape[0]
    averages = decays.size
    for panel in range((last - first + PANEL - 1) // PANEL):
        left = first + panel * PANEL
        right = left + PANEL if left + PANEL < last else last
        width = right - left
        past = history[panel if panel < history.shape[0] else 0]
        if panel >= history.shape[0]:  # one history for all, from its beginning
            past[lags + 1 : lags + 1 + averages] = 0.0
        scratch = past[lags + 1 + averages, :width]
        previous_energy = 0.0
        for i in range(rows):
            step = start + i
            row = block[i, left:right]
            slot = step % (lags + 1)
            gradient = past[slot, :width]
            if i + 1 < rows:
                # Rows lie far apart: the processor does not foresee where the next one starts.
                for k in range(left, right, LINE // block.itemsize):
                    prefetch(block, i + 1, k)
            product = increment = 0.0
            if step > 0:
                previous = _history_vector(past, 0, slot, lags, width)
                if i == 0:
                    previous_energy = squared_norm(previous)
                if replace:
                    energy, product, increment = load_lag_and_increments(row, gradient, previous)
                else:
                    energy, product, increment = load_lag(row, gradient, previous)
                sums[i, LAG_PRODUCT] += product
                sums[i, INCREMENT] += increment
            else:
                energy = load(row, gradient)
                if replace:
                    for j in range(width):
                        row[j] = 0
            sums[i, ENERGY] += energy
            if not math.isfinite(energy):
                sums[i, NONFINITE] += count_nonfinite(gradient)
            elif energy < TINY:
                sums[i, NONZERO_TINY] += count_nonzero(gradient)
            for p in range(weights.shape[0]):
                count = 0
                found = 0
                for k in range(weights.shape[2]):
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
                residual, inner, predicted = _weighted_sums(
                    weights[p, i], count, past, slot, lags, gradient, scratch
                )
                sums[i, at + RESIDUAL] += residual
                sums[i, at + PRODUCT] += inner
                sums[i, at + PREDICTION] += predicted
            previous_energy = energy
            e = 0
            while e < averages:
                average = past[lags + 1 + e, :width]
                if e + 1 < averages:
                    other = past[lags + 2 + e, :width]
                    residual, inner, predicted, residual_2, inner_2, predicted_2 = two_averages_sums(
                        gradient, average, decays[e], other, decays[e + 1]
                    )
                    if owners[e + 1] >= 0:
                        at = PREDICTORS + 3 * owners[e + 1]
                        sums[i, at + RESIDUAL] += residual_2
                        sums[i, at + PRODUCT] += inner_2
                        sums[i, at + PREDICTION] += predicted_2
                        owners[e + 1] = -1
                else:
                    residual, inner, predicted = average_sums(gradient, average, decays[e])
                if owners[e] >= 0:
                    at = PREDICTORS + 3 * owners[e]
                    sums[i, at + RESIDUAL] += residual
                    sums[i, at + PRODUCT] += inner
                    sums[i, at + PREDICTION] += predicted
                    owners[e] = -1
                e += 2


def c_module(dtype: np.dtype[np.floating[Any]]) -> tuple[str, str]:
    """(symbol, LLVM module) of `fused_sums` as a C function, for blocks of `dtype`."""
    nb: Any = numba  # without types of its own
    pointer, carray = nb.types.CPointer, nb.carray
    doubles, size = pointer(nb.float64), nb.int64
    signature = nb.void(
        pointer(nb.from_dtype(dtype)), size, size, size, size, size, doubles, size, size, size,
        doubles, size, doubles, size, doubles, size, pointer(size), size,
    )  # fmt: skip

    @nb.cfunc(signature)
    def entry(  # type: ignore[no-untyped-def]
        block, rows, columns, first, last, start, history, panels, depth, lags,
        decays, averages, weights, predictors, sums, sum_columns, owners, replace,
    ):  # fmt: skip
        fused_sums(
            carray(block, (rows, columns)),
            first,
            last,
            start,
            carray(history, (panels, depth, ROW)),
            lags,
            carray(decays, (averages,)),
            carray(weights, (predictors, rows, lags + averages)),
            carray(sums, (rows, sum_columns)),
            carray(owners, (averages,)),
            replace != 0,
        )

    return entry.native_name, entry.inspect_llvm()
