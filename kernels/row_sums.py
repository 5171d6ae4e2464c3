"""Sums over a piece of one row, for `fused_pass_jit`: each loop reads every vector once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel

Doubles = NDArray[np.float64]
Gradients = NDArray[np.floating[Any]]
Sums = tuple[float, float, float]
NO_SUMS = 0.0, 0.0, 0.0
UsualSums = tuple[Sums, Sums, Sums, Sums, Sums, Sums]
USUAL_DECAY = 0.5
"""Decays from which on `usual_sums` moves averages by their distance from the gradient. With smaller ones, an
average that is far larger than the gradient would leave its rounding in the next."""


@kernel
def history_vector(history: Doubles, index: int, slot: int, lags: int, width: int) -> Doubles:
    """History vector `index` of a panel: g_{t-1-index} for index < lags, else average index - lags.

    slot : where g_t stands in the ring
    """
    if index >= lags:
        return history[index + 1, :width]
    at = slot - 1 - index
    return history[at if at >= 0 else at + lags + 1, :width]


@kernel
def load(row: Gradients, gradient: Doubles) -> float:
    """Copy a row into float64; its ||g||^2."""
    energy = 0.0
    for j in range(row.size):
        value = np.float64(row[j])
        gradient[j] = value
        energy += value * value
    return energy


def _load_lag(replace: bool) -> Callable[[Gradients, Doubles, Doubles], Sums]:
    @kernel
    def load_lag(row: Gradients, gradient: Doubles, previous: Doubles) -> Sums:
        energy = 0.0
        product = 0.0
        increment = 0.0
        for j in range(row.size):
            value = np.float64(row[j])
            before = previous[j]
            gradient[j] = value
            difference = value - before
            if replace:
                row[j] = difference
            energy += value * value
            product += value * before
            increment += difference * difference
        return energy, product, increment

    return load_lag


load_lag = _load_lag(False)
"""`load`; ||g_t||^2, <g_t, g_{t-1}> and ||g_t - g_{t-1}||^2."""
load_lag_and_increments = _load_lag(True)
"""`load_lag`, leaving the increments in the row."""


@kernel
def squared_norm(vector: Doubles) -> float:
    """||x||^2."""
    energy = 0.0
    for j in range(vector.size):
        energy += vector[j] * vector[j]
    return energy


@kernel
def count_nonfinite(gradient: Doubles) -> int:
    """Entries that are NaN or infinite."""
    count = 0
    for j in range(gradient.size):
        if not math.isfinite(gradient[j]):
            count += 1
    return count


@kernel
def count_nonzero(gradient: Doubles) -> int:
    """Entries that are not 0."""
    count = 0
    for j in range(gradient.size):
        if gradient[j] != 0.0:
            count += 1
    return count


@kernel
def _with(sums: Sums, value: float, prediction: float) -> Sums:
    """(g - m)^2, g m and m^2 of one entry added to the sums of them."""
    difference = value - prediction
    return (
        sums[0] + difference * difference,
        sums[1] + value * prediction,
        sums[2] + prediction * prediction,
    )


@kernel
def average_sums(gradient: Doubles, average: Doubles, keep: float) -> Sums:
    """||g - s||^2, <g, s> and ||s||^2 for an exponential average, which takes the gradient in on the way."""
    sums = NO_SUMS
    gain = 1.0 - keep
    for j in range(gradient.size):
        sums = _with(sums, gradient[j], average[j])
        average[j] = keep * average[j] + gain * gradient[j]
    return sums


@kernel
def two_averages_sums(
    gradient: Doubles, first: Doubles, keep_first: float, second: Doubles, keep_second: float
) -> tuple[Sums, Sums]:
    """`average_sums` of two averages in one pass."""
    sums_1 = sums_2 = NO_SUMS
    gain_1 = 1.0 - keep_first
    gain_2 = 1.0 - keep_second
    for j in range(gradient.size):
        value = gradient[j]
        one = first[j]
        two = second[j]
        sums_1 = _with(sums_1, value, one)
        first[j] = keep_first * one + gain_1 * value
        sums_2 = _with(sums_2, value, two)
        second[j] = keep_second * two + gain_2 * value
    return sums_1, sums_2


@kernel
def weighted_sums_2(gradient: Doubles, a: float, x: Doubles, b: float, y: Doubles) -> Sums:
    """||g - m||^2, <g, m> and ||m||^2 for the prediction m = a x + b y."""
    sums = NO_SUMS
    for j in range(gradient.size):
        prediction = a * x[j] + b * y[j]
        sums = _with(sums, gradient[j], prediction)
    return sums


@kernel
def weighted_sums_5(
    gradient: Doubles,
    a: float, x: Doubles, b: float, y: Doubles, c: float, z: Doubles,
    d: float, v: Doubles, e: float, w: Doubles,
) -> Sums:  # fmt: skip
    """As `weighted_sums_2`, for a prediction of five vectors."""
    sums = NO_SUMS
    for j in range(gradient.size):
        prediction = (a * x[j] + b * y[j]) + (c * z[j] + d * v[j]) + e * w[j]
        sums = _with(sums, gradient[j], prediction)
    return sums


def _usual_sums(replace: bool) -> Callable[..., UsualSums]:
    @kernel
    def usual_sums(
        row: Gradients, past: Doubles, slot: int, lags: int, five: float, two: Doubles, decays: Doubles
    ) -> UsualSums:
        width = row.size
        gradient = past[slot, :width]
        x = history_vector(past, 0, slot, lags, width)
        y = history_vector(past, 1, slot, lags, width)
        z = history_vector(past, 2, slot, lags, width)
        v = history_vector(past, 3, slot, lags, width)
        w = history_vector(past, 4, slot, lags, width)
        first, second, third = past[lags + 1, :width], past[lags + 2, :width], past[lags + 3, :width]
        a, b = two[0], two[1]
        gain_1, gain_2, gain_3 = 1.0 - decays[0], 1.0 - decays[1], 1.0 - decays[2]
        energy = lagged = increment = 0.0
        of_5 = of_2 = of_a = of_b = of_c = NO_SUMS
        for j in range(row.size):
            value = np.float64(row[j])
            before = x[j]
            gradient[j] = value
            difference = value - before
            if replace:
                row[j] = difference
            energy += value * value
            lagged += value * before
            increment += difference * difference
            prediction = five * ((before + y[j]) + (z[j] + v[j]) + w[j])
            of_5 = _with(of_5, value, prediction)
            prediction = a * before + b * y[j]
            of_2 = _with(of_2, value, prediction)
            average = first[j]
            of_a = _with(of_a, value, average)
            first[j] = average + gain_1 * (value - average)
            average = second[j]
            of_b = _with(of_b, value, average)
            second[j] = average + gain_2 * (value - average)
            average = third[j]
            of_c = _with(of_c, value, average)
            third[j] = average + gain_3 * (value - average)
        return (energy, lagged, increment), of_5, of_2, of_a, of_b, of_c

    return usual_sums


usual_sums = _usual_sums(False)
"""What the predictors of a usual run take, at once; one after the other they mostly wait for the history.

past, slot : a panel of the history, and where g_t goes in its ring, of five lags or more

In this order: `load_lag`; `weighted_sums_5` of the last five gradients, each times `five`; `weighted_sums_2`
of the last two with the weights `two`; `average_sums` of the first three averages, of USUAL_DECAY or more.
"""
usual_sums_and_increments = _usual_sums(True)
"""`usual_sums`, leaving the increments in the row."""


@kernel
def weigh(a: float, x: Doubles, b: float, y: Doubles, accumulate: bool, out: Doubles) -> None:
    """out = a x + b y, or added to it."""
    if accumulate:
        for j in range(out.size):
            out[j] += a * x[j] + b * y[j]
    else:
        for j in range(out.size):
            out[j] = a * x[j] + b * y[j]
