"""Sums over a piece of one row, for `fused_pass_jit`: each loop reads every vector once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel

Doubles = NDArray[np.float64]
Gradients = NDArray[np.floating[Any]]


@kernel
def load(row: Gradients, gradient: Doubles) -> float:
    """Copy a row into float64; its ||g||^2."""
    energy = 0.0
    for j in range(row.size):
        value = np.float64(row[j])
        gradient[j] = value
        energy += value * value
    return energy


@kernel
def load_lag(row: Gradients, gradient: Doubles, previous: Doubles) -> tuple[float, float, float]:
    """`load`; ||g_t||^2, <g_t, g_{t-1}> and ||g_t - g_{t-1}||^2."""
    energy = 0.0
    product = 0.0
    increment = 0.0
    for j in range(row.size):
        value = np.float64(row[j])
        before = previous[j]
        gradient[j] = value
        difference = value - before
        energy += value * value
        product += value * before
        increment += difference * difference
    return energy, product, increment


@kernel
def load_lag_and_increments(
    row: Gradients, gradient: Doubles, previous: Doubles
) -> tuple[float, float, float]:
    """`load_lag`, leaving the increments in the row."""
    energy = 0.0
    product = 0.0
    increment = 0.0
    for j in range(row.size):
        value = np.float64(row[j])
        before = previous[j]
        gradient[j] = value
        difference = value - before
        row[j] = difference
        energy += value * value
        product += value * before
        increment += difference * difference
    return energy, product, increment


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
def average_sums(gradient: Doubles, average: Doubles, keep: float) -> tuple[float, float, float]:
    """||g - s||^2, <g, s> and ||s||^2 for an exponential average, which takes the gradient in on the way."""
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
def two_averages_sums(
    gradient: Doubles, first: Doubles, keep_first: float, second: Doubles, keep_second: float
) -> tuple[float, float, float, float, float, float]:
    """`average_sums` of two averages in one pass."""
    residual_1 = product_1 = energy_1 = 0.0
    residual_2 = product_2 = energy_2 = 0.0
    gain_1 = 1.0 - keep_first
    gain_2 = 1.0 - keep_second
    for j in range(gradient.size):
        value = gradient[j]
        one = first[j]
        two = second[j]
        difference = value - one
        residual_1 += difference * difference
        product_1 += value * one
        energy_1 += one * one
        first[j] = keep_first * one + gain_1 * value
        difference = value - two
        residual_2 += difference * difference
        product_2 += value * two
        energy_2 += two * two
        second[j] = keep_second * two + gain_2 * value
    return residual_1, product_1, energy_1, residual_2, product_2, energy_2


@kernel
def weighted_sums_2(
    gradient: Doubles, a: float, x: Doubles, b: float, y: Doubles
) -> tuple[float, float, float]:
    """||g - m||^2, <g, m> and ||m||^2 for the prediction m = a x + b y."""
    residual = 0.0
    product = 0.0
    energy = 0.0
    for j in range(gradient.size):
        prediction = a * x[j] + b * y[j]
        difference = gradient[j] - prediction
        residual += difference * difference
        product += gradient[j] * prediction
        energy += prediction * prediction
    return residual, product, energy


@kernel
def weighted_sums_5(
    gradient: Doubles,
    a: float, x: Doubles, b: float, y: Doubles, c: float, z: Doubles,
    d: float, v: Doubles, e: float, w: Doubles,
) -> tuple[float, float, float]:  # fmt: skip
    """As `weighted_sums_2`, for a prediction of five vectors."""
    residual = 0.0
    product = 0.0
    energy = 0.0
    for j in range(gradient.size):
        prediction = (a * x[j] + b * y[j]) + (c * z[j] + d * v[j]) + e * w[j]
        difference = gradient[j] - prediction
        residual += difference * difference
        product += gradient[j] * prediction
        energy += prediction * prediction
    return residual, product, energy


@kernel
def weigh(a: float, x: Doubles, b: float, y: Doubles, accumulate: bool, out: Doubles) -> None:
    """out = a x + b y, or added to it."""
    if accumulate:
        for j in range(out.size):
            out[j] += a * x[j] + b * y[j]
    else:
        for j in range(out.size):
            out[j] = a * x[j] + b * y[j]
