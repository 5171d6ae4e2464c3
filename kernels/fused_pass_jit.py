"""The Numba side of `fused_pass`: imported only where the kernel is compiled, or runs without the JIT."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .fused_pass import (
    ENERGY,
    INCREMENT,
    LAG_PRODUCT,
    NONFINITE,
    NONZERO_TINY,
    PREDICTION,
    PREDICTORS,
    PRODUCT,
    RESIDUAL,
    TILE,
    TINY,
)
from .jit import kernel

Doubles = NDArray[np.float64]
Gradients = NDArray[np.floating[Any]]


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
    vectors = lags + averages
    for tile in range((last - first + TILE - 1) // TILE):
        left = first + tile * TILE
        right = left + TILE if left + TILE < last else last
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
                for j in range(width):
                    row[j] = 0
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
        block, rows, columns, first, last, start, history, tiles, depth, lags,
        decays, averages, weights, predictors, sums, sum_columns, owners, replace,
    ):  # fmt: skip
        fused_sums(
            carray(block, (rows, columns)),
            first,
            last,
            start,
            carray(history, (tiles, depth, TILE)),
            lags,
            carray(decays, (averages,)),
            carray(weights, (predictors, rows, lags + averages)),
            carray(sums, (rows, sum_columns)),
            carray(owners, (averages,)),
            replace != 0,
        )

    return entry.native_name, entry.inspect_llvm()
