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
    USUAL_DECAY,
    Sums,
    average_sums,
    count_nonfinite,
    count_nonzero,
    history_vector,
    load,
    load_lag,
    load_lag_and_increments,
    squared_norm,
    two_averages_sums,
    usual_sums,
    usual_sums_and_increments,
    weigh,
    weighted_sums_2,
    weighted_sums_5,
)

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Gradients = NDArray[np.floating[Any]]

LAST = -1
"""Way of a predictor that is the last gradient: its sums are there already."""
ELSEWHERE = -2
"""Way of a predictor that is an average: its sums are found on the way to the average's next value."""


@kernel
def _weighted_sums(
    weights: Doubles, count: int, past: Doubles, slot: int, lags: int, gradient: Doubles, scratch: Doubles
) -> Sums:
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
        vector = history_vector(past, k, slot, lags, width)
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
def _share_out(weights: Doubles, lags: int, ways: Integers) -> None:
    """Which way each predictor's sums are found at a step.

    weights : (P, L + E) of the step
    ways : (P + E + 2,) overwritten: of each predictor, the number of vectors that are weighed, LAST or
        ELSEWHERE; of each average, the predictor that it is; the predictors of five equal lags and of two
        lags that `usual_sums` takes. -1 where there is none.
    """
    predictors = weights.shape[0]
    ways[predictors:] = -1
    for p in range(predictors):
        count = found = 0
        equal = True
        for k in range(weights.shape[1]):
            if weights[p, k] != 0.0:
                equal = equal and (count == 0 or weights[p, k] == weights[p, found])
                count += 1
                found = k
        ways[p] = count
        if count == 1 and weights[p, found] == 1.0:
            if found == 0:
                ways[p] = LAST
            elif found >= lags and ways[predictors + found - lags] < 0:
                ways[p] = ELSEWHERE
                ways[predictors + found - lags] = p
        elif count == 5 and equal and found == 4 and found < lags and ways[-2] < 0:
            ways[-2] = p
        elif count == 2 and found == 1 and found < lags and ways[-1] < 0:
            ways[-1] = p
    for p in range(predictors):
        if ways[p] > 0 and p not in (ways[-2], ways[-1]):
            for k in range(lags, weights.shape[1]):
                if weights[p, k] != 0.0:  # weighs an average, which `usual_sums` would have moved on
                    ways[-1] = -1


@kernel
def _add(sums: Doubles, p: int, found: Sums) -> None:
    """Add what was found of a predictor to its columns, if it is one."""
    if p >= 0:
        at = PREDICTORS + 3 * p
        sums[at + RESIDUAL] += found[0]
        sums[at + PRODUCT] += found[1]
        sums[at + PREDICTION] += found[2]


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
    ways: Integers,
    replace: bool,
) -> None:
    """As of `fused_pass.fused_pass`. ways : (T, P + E + 2) int64, scratch memory."""
    rows = block.shape[0]
    predictors = weights.shape[0]
    averages = decays.size
    usual_averages = averages >= 3 and min(decays[0], decays[1], decays[2]) >= USUAL_DECAY
    for i in range(rows):
        _share_out(weights[:, i], lags, ways[i])
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
            owners = ways[i, predictors : predictors + averages]
            five, two = ways[i, -2], ways[i, -1]
            usual = False
            lag = 0.0, 0.0, 0.0  # energy, product and increment
            if step > 0:
                previous = history_vector(past, 0, slot, lags, width)
                if i == 0:
                    previous_energy = squared_norm(previous)
                if five >= 0 and two >= 0 and usual_averages:
                    usual = True
                    given = weights[five, i, 0], weights[two, i], decays
                    if replace:
                        all_sums = usual_sums_and_increments(row, past, slot, lags, *given)
                    else:
                        all_sums = usual_sums(row, past, slot, lags, *given)
                    lag = all_sums[0]
                    _add(sums[i], five, all_sums[1])
                    _add(sums[i], two, all_sums[2])
                    for e in range(3):
                        _add(sums[i], owners[e], all_sums[3 + e])
                elif replace:
                    lag = load_lag_and_increments(row, gradient, previous)
                else:
                    lag = load_lag(row, gradient, previous)
                sums[i, LAG_PRODUCT] += lag[1]
                sums[i, INCREMENT] += lag[2]
            else:
                lag = load(row, gradient), 0.0, 0.0
                if replace:
                    for j in range(width):
                        row[j] = 0
            energy = lag[0]
            sums[i, ENERGY] += energy
            if not math.isfinite(energy):
                sums[i, NONFINITE] += count_nonfinite(gradient)
            elif energy < TINY:
                sums[i, NONZERO_TINY] += count_nonzero(gradient)
            for p in range(predictors):
                way = ways[i, p]
                if way == 0:
                    sums[i, PREDICTORS + 3 * p + RESIDUAL] += energy
                elif way == LAST:
                    _add(sums[i], p, (lag[2], lag[1], previous_energy))
                elif way != ELSEWHERE and not (usual and p in (five, two)):
                    found = _weighted_sums(weights[p, i], way, past, slot, lags, gradient, scratch)
                    _add(sums[i], p, found)
            previous_energy = energy
            averaged = 3 if usual else 0
            while averaged < averages:
                average = past[lags + 1 + averaged, :width]
                if averaged + 1 < averages:
                    other = past[lags + 2 + averaged, :width]
                    of_one, of_other = two_averages_sums(
                        gradient, average, decays[averaged], other, decays[averaged + 1]
                    )
                    _add(sums[i], owners[averaged + 1], of_other)
                else:
                    of_one = average_sums(gradient, average, decays[averaged])
                _add(sums[i], owners[averaged], of_one)
                averaged += 2


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
        decays, averages, weights, predictors, sums, sum_columns, ways, replace,
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
            carray(ways, (rows, predictors + averages + 2)),
            replace != 0,
        )

    return entry.native_name, entry.inspect_llvm()
