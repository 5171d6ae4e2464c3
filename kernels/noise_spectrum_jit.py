"""The Numba side of `noise_spectrum`: imported only where the kernel is compiled, or runs without the JIT."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import kernel
from .noise_layout import COARSE, FINE, LANES, SCRATCH

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Columns = tuple[Doubles, Doubles]
"""(G,) each: shares p of the parameters, and energy v of each of them, whose mean is 1."""

FEWEST = 64
"""Of FINE thresholds, for few eigenvalues."""
NODES = 48
"""Values that stand for the eigenvalues where parameters are few, at most."""
EVEN_NODES = 26
"""Parts of the energy that these have, but for the smallest."""
SINGLE_NODES = 8
"""Largest eigenvalues that stand for themselves: each may stand apart from all others."""
POINTS = 48
"""Values that eigenvalues of few parameters are held against, at most."""
LARGEST_STEP = 0.1
"""Of the energy between two such values."""
SMALLEST = 1e-9
"""Of the largest eigenvalue: what is smaller holds no energy to speak of."""
HEIGHT_STEP = 1.15
"""Between heights above the real line, as logarithms: a trapezoidal rule that errs by exp(-pi^2 / step)."""
HIGHEST, LOWEST = 20.0, 1e-2
"""Heights, in largest eigenvalues, and in the value that the line crosses the axis at: the transform is its
leading term above, and about constant below."""
NUMBER_ERROR = 3e-4
"""Of all eigenvalues: about what the rule errs by."""
CLOSE = 1e-6
"""Square of the last step of Newton's method, relative: what is left after it is of that order."""
NEGLIGIBLE_ASPECT = 2e-3
"""Eigenvalues for each parameter, below which they stay where they are."""
RANKS, STABLE, EFFECTIVE = 2, 0, 1
"""Places in the results."""


@kernel
def _counts(energies: Doubles, thresholds: Doubles, count: int, above: Doubles, lanes: Floats) -> None:
    """How many eigenvalues lie above each threshold, by the signs of a Sturm sequence (Wilkinson 1965).

    Of the tridiagonal matrix with e_{t-1} + e_t on its diagonal and -e_t beside it. Single precision shifts
    each of its entries by no more than their rounding, whatever their sizes. lanes : (3, LANES) of scratch
    """
    cuts, pivots, found = lanes[0], lanes[1], lanes[2]
    least = np.float32(1e-30)
    for first in range(0, count, LANES):
        width = min(LANES, count - first)
        for j in range(LANES):  # all of them: loops of a fixed length take half the time
            cuts[j] = thresholds[first + min(j, width - 1)]
            pivots[j] = 1.0
            found[j] = 0.0
        for t in range(1, energies.size):
            diagonal = np.float32(energies[t - 1] + energies[t])
            square = energies[t - 1] * energies[t - 1]
            beside = np.float32(square) if t > 1 and square > least else np.float32(0.0)
            for j in range(LANES):
                pivot = diagonal - cuts[j] - beside / pivots[j]
                pivot = pivot if abs(pivot) > least else -least
                pivots[j] = pivot
                found[j] += np.float32(1.0) if pivot > 0 else np.float32(0.0)
        for j in range(width):
            above[first + j] = found[j]


@kernel
def _largest(energies: Doubles, thresholds: Doubles, above: Doubles, lanes: Floats) -> float:
    """The largest eigenvalue, by bisection into 64 at a time from Gershgorin's bounds."""
    low = high = 0.0
    for t in range(1, energies.size):
        low = max(low, energies[t - 1] + energies[t])
        before = energies[t - 1] if t > 1 else 0.0
        after = energies[t] if t < energies.size - 1 else 0.0
        high = max(high, energies[t - 1] + energies[t] + before + after)
    high *= 1 + 1e-12
    for _ in range(2):
        step = (high - low) / LANES
        for j in range(LANES):
            thresholds[j] = low + j * step
        _counts(energies, thresholds, LANES, above, lanes)
        at = 0
        while at + 1 < LANES and above[at + 1] > 0:
            at += 1
        low, high = thresholds[at], thresholds[at] + step
    return high


@kernel
def _bins(energies: Doubles, scratch: Doubles, lanes: Floats) -> int:
    """Thresholds (falling), and how many eigenvalues lie above each, so that little energy lies between two.

    Fills the first two rows of `scratch` and uses the others; how many thresholds there are.
    """
    thresholds, above, held = scratch[0], scratch[1], scratch[4]
    coarse, coarsely, fine, finely = scratch[2], scratch[3], scratch[6], scratch[7]
    largest = _largest(energies, fine, finely, lanes)
    for j in range(COARSE):
        coarse[j] = largest * SMALLEST ** (j / (COARSE - 1))
    _counts(energies, coarse, COARSE, coarsely, lanes)
    held[0] = coarsely[0] = 0.0
    for j in range(1, COARSE):
        held[j] = held[j - 1] + (coarsely[j] - coarsely[j - 1]) * (coarse[j] + coarse[j - 1]) / 2
    total = held[COARSE - 1]
    count = min(FINE, max(FEWEST, energies.size))
    tails = count // 5
    at = 0
    for j in range(count):
        # Closer at both ends: large eigenvalues are few, and small ones hold little.
        if j < tails:
            share = 0.05 * 1e-4 ** (1 - j / tails)
        elif j >= count - tails:
            share = 1 - 0.05 * 1e-4 ** (1 - (count - 1 - j) / tails)
        else:
            share = 0.05 + 0.9 * (j - tails) / (count - 2 * tails)
        wanted = share * total
        while at + 2 < COARSE and held[at + 1] < wanted:
            at += 1
        inside = held[at + 1] - held[at]
        part = (wanted - held[at]) / inside if inside > 0 else 1.0
        fine[j] = coarse[at] + part * (coarse[at + 1] - coarse[at])
    _counts(energies, fine, count, finely, lanes)
    found = j = k = 0
    while j < COARSE or k < count:
        if k == count or (j < COARSE and coarse[j] >= fine[k]):
            thresholds[found], above[found] = coarse[j], coarsely[j]
            j += 1
        else:
            thresholds[found], above[found] = fine[k], finely[k]
            k += 1
        # Between the same counts nothing lies.
        if found < 2 or above[found] != above[found - 1] or above[found - 1] != above[found - 2]:
            found += 1
        else:
            thresholds[found - 1] = thresholds[found]
    thresholds[found] = 0.0
    above[found] = energies.size - 1  # none is negative
    return found + 1


@kernel
def _energy(thresholds: Doubles, above: Doubles, bins: int) -> float:
    """Sum of eigenvalues that lie evenly between thresholds."""
    total = 0.0
    for j in range(1, bins):
        total += (above[j] - above[j - 1]) * (thresholds[j] + thresholds[j - 1]) / 2
    return total


@kernel
def _of_bins(thresholds: Doubles, above: Doubles, bins: int, epsilons: Doubles, results: Doubles) -> None:
    """Ranks and counts of eigenvalues that lie evenly between thresholds."""
    total = _energy(thresholds, above, bins)
    entropy = 0.0
    for k in range(epsilons.size):
        results[RANKS + k] = above[bins - 1]
    for k in range(epsilons.size):
        held = 0.0
        wanted = (1 - epsilons[k]) * total
        for j in range(1, bins):
            inside = above[j] - above[j - 1]
            mean = (thresholds[j] + thresholds[j - 1]) / 2
            if inside > 0 and held + inside * mean >= wanted:
                step = (thresholds[j - 1] - thresholds[j]) / inside
                number = 0.0
                while number < inside and held < wanted:
                    held += thresholds[j - 1] - (number + 0.5) * step
                    number += 1.0
                results[RANKS + k] = above[j - 1] + number
                break
            held += inside * mean
    for j in range(1, bins):
        inside = above[j] - above[j - 1]
        mean = (thresholds[j] + thresholds[j - 1]) / 2
        if inside > 0 and mean > 0:
            entropy -= inside * mean / total * math.log(mean / total)
    results[STABLE] = total / thresholds[0]
    results[EFFECTIVE] = math.exp(entropy)


@kernel
def _nodes(thresholds: Doubles, above: Doubles, bins: int, values: Doubles, weights: Doubles) -> int:
    """Few values with the share of the eigenvalues that each stands for, from the largest on; how many."""
    total = _energy(thresholds, above, bins)
    found = 0
    inside = energy = held = 0.0
    wanted = total / EVEN_NODES
    for j in range(1, bins):
        n = above[j] - above[j - 1]
        inside += n
        energy += n * (thresholds[j] + thresholds[j - 1]) / 2
        alone = found < SINGLE_NODES and inside >= 1
        if inside > 0 and (alone or energy >= wanted or j == bins - 1):
            if found == NODES:  # hardly any energy is left
                weights[NODES - 1] += inside / above[bins - 1]
                inside = energy = 0.0
                continue
            values[found] = energy / inside
            weights[found] = inside / above[bins - 1]
            found += 1
            held += energy
            inside = energy = 0.0
            left = total - held
            wanted = total / EVEN_NODES if left > 0.06 * total else 0.4 * left
    return found


@kernel
def _column_transform(real: float, imaginary: float, columns: Columns) -> tuple[float, float, float, float]:
    """a(b) = sum p v / (1 + v b), and its derivative."""
    a_r = a_i = d_r = d_i = 0.0
    for g in range(columns[0].size):
        v = columns[1][g]
        u_r = 1 + v * real
        u_i = v * imaginary
        inverse = v / (u_r * u_r + u_i * u_i)
        p = u_r * inverse
        q = -u_i * inverse
        a_r += columns[0][g] * p
        a_i += columns[0][g] * q
        d_r -= columns[0][g] * (p * p - q * q)
        d_i -= columns[0][g] * 2 * p * q
    return a_r, a_i, d_r, d_i


@kernel
def _solve(
    x: float,
    y: float,
    real: float,
    imaginary: float,
    values: Doubles,
    weights: Doubles,
    columns: Columns,
    aspect: float,
) -> tuple[float, float]:
    """b = aspect sum w t / (a(b) t - z) with z = x + i y, by Newton's method from a neighbour's.

    The transform of the spectrum of a separable sample covariance matrix (Paul and Silverstein 2009).
    """
    for _ in range(30):
        a_r, a_i, d_r, d_i = _column_transform(real, imaginary, columns)
        sum_r = sum_i = square_r = square_i = 0.0
        for j in range(values.size):
            t = values[j]
            u_r = a_r * t - x
            u_i = a_i * t - y
            inverse = t / (u_r * u_r + u_i * u_i)
            p = u_r * inverse
            q = -u_i * inverse
            sum_r += weights[j] * p
            sum_i += weights[j] * q
            square_r += weights[j] * (p * p - q * q)
            square_i += weights[j] * 2 * p * q
        error_r = aspect * sum_r - real
        error_i = aspect * sum_i - imaginary
        slope_r = -aspect * (square_r * d_r - square_i * d_i) - 1
        slope_i = -aspect * (square_r * d_i + square_i * d_r)
        norm = slope_r * slope_r + slope_i * slope_i
        step_r = (error_r * slope_r + error_i * slope_i) / norm
        step_i = (error_i * slope_r - error_r * slope_i) / norm
        shrink = 1.0
        while imaginary - shrink * step_i <= 0:  # b lies in the upper half plane
            shrink /= 2
        real -= shrink * step_r
        imaginary -= shrink * step_i
        if step_r * step_r + step_i * step_i < CLOSE * (real * real + imaginary * imaginary):
            break
    return real, imaginary


@kernel
def _unevenness(columns: Columns) -> float:
    """Mean square of the energies of parameters, whose mean is 1."""
    found = 0.0
    for g in range(columns[0].size):
        found += columns[0][g] * columns[1][g] * columns[1][g]
    return found


@kernel
def _moments(values: Doubles, weights: Doubles, columns: Columns, aspect: float) -> tuple[float, float]:
    """Mean of the eigenvalues, and of their squares."""
    mean = square = 0.0
    for j in range(values.size):
        mean += weights[j] * values[j]
        square += weights[j] * values[j] * values[j]
    return mean, square + aspect * mean * mean * _unevenness(columns)


@kernel
def _above(
    x: float,
    top: float,
    moments: tuple[float, float],
    values: Doubles,
    weights: Doubles,
    columns: Columns,
    aspect: float,
) -> tuple[float, float]:
    """Share of the eigenvalues above x, and their sum over all, from the transform along a line through x.

    (1/pi) int_0^inf Re 1 / (l - x - iy) dy is half the sign of l - x.
    """
    mean, square = moments
    y = HIGHEST * top
    size = x * x + y * y
    real, imaginary = -aspect * mean * x / size, aspect * mean * y / size
    # The terms of the rule that lie higher, of (mean - x) / y^2 and of the mean square of eigenvalues.
    beyond = y * (math.exp(HEIGHT_STEP) - 1)
    number = (mean - x) / beyond
    energy = (square - x * mean) / beyond
    m_r = m_i = 0.0
    while y > LOWEST * x:
        real, imaginary = _solve(x, y, real, imaginary, values, weights, columns, aspect)
        a_r, a_i, _, _ = _column_transform(real, imaginary, columns)
        m_r = m_i = 0.0
        for j in range(values.size):
            u_r = a_r * values[j] - x
            u_i = a_i * values[j] - y
            inverse = weights[j] / (u_r * u_r + u_i * u_i)
            m_r += u_r * inverse
            m_i -= u_i * inverse
        number += m_r * y
        energy += (1 + x * m_r - y * m_i) * y
        y *= math.exp(-HEIGHT_STEP)
    below = y * math.exp(HEIGHT_STEP) / (math.exp(HEIGHT_STEP) - 1)
    number += m_r * below
    energy += (1 + x * m_r) * below
    return 0.5 + number * HEIGHT_STEP / math.pi, mean / 2 + energy * HEIGHT_STEP / math.pi


@kernel
def _insert(at: int, found: int, x: float, number: float, energy: float, table: Doubles) -> None:
    """Put a point into the table (3, ...) of points, numbers and sums, kept in order."""
    for j in range(found, at, -1):
        for k in range(3):
            table[k, j] = table[k, j - 1]
    table[0, at], table[1, at], table[2, at] = x, number, energy
    for k in range(1, 3):
        table[k, at] = max(table[k, at], table[k, at - 1])
        if at < found:
            table[k, at] = min(table[k, at], table[k, at + 1])


@kernel
def _of_few_parameters(
    values: Doubles,
    weights: Doubles,
    columns: Columns,
    count: float,
    parameters: float,
    epsilons: Doubles,
    table: Doubles,
    results: Doubles,
) -> None:
    """Ranks and counts where parameters are so few that eigenvalues spread."""
    aspect = count / parameters
    moments = _moments(values, weights, columns, aspect)
    mean, largest = moments[0], 0.0
    for g in range(columns[0].size):
        largest = max(largest, columns[1][g])
    most = min(1.0, parameters / count)
    top = min(count * mean, values[0] * largest * (1 + math.sqrt(aspect)) ** 2)
    single = 0.5 / count
    x, number, energy = top, 0.0, 0.0
    while number < single:
        x *= 0.5
        number, energy = _above(x, top, moments, values, weights, columns, aspect)
    # The largest is where half an eigenvalue lies above.
    low, high = x, 2 * x
    for _ in range(6):
        middle = math.sqrt(low * high)
        if _above(middle, top, moments, values, weights, columns, aspect)[0] < single:
            high = middle
        else:
            low = middle
    first = math.sqrt(low * high)
    table[0, 0], table[1, 0], table[2, 0] = high, 0.0, 0.0
    _insert(1, 1, x, min(number, most), min(energy, mean), table)
    found = 2
    while found < POINTS // 2 and table[2, found - 1] < 0.998 * mean:
        x *= 0.5
        number, energy = _above(x, top, moments, values, weights, columns, aspect)
        _insert(found, found, x, min(number, most), min(energy, mean), table)
        found += 1
    _insert(found, found, 0.0, most, mean, table)
    found += 1
    while found < POINTS:
        widest, step = 0, LARGEST_STEP * mean
        for j in range(1, found - 1):
            if table[2, j] - table[2, j - 1] > step and table[0, j] < 0.97 * table[0, j - 1]:
                widest, step = j, table[2, j] - table[2, j - 1]
        if widest == 0:
            break
        x = math.sqrt(table[0, widest] * table[0, widest - 1])
        number, energy = _above(x, top, moments, values, weights, columns, aspect)
        _insert(widest, found, x, number, energy, table)
        found += 1
    entropy = 0.0
    for j in range(1, found):
        inside, energy = table[1, j] - table[1, j - 1], table[2, j] - table[2, j - 1]
        if energy > 0:
            value = energy / inside if inside > 0 else table[0, j - 1]
            value = min(max(value, table[0, j]), table[0, j - 1])
            entropy -= energy / mean * math.log(value / (mean * count))
    results[STABLE] = mean * count / first
    results[EFFECTIVE] = math.exp(entropy)
    for k in range(epsilons.size):
        wanted = (1 - epsilons[k]) * mean
        j = 1
        while j < found - 1 and table[2, j] < wanted:
            j += 1
        n_high, n_low, e_high, e_low = table[1, j - 1], table[1, j], table[2, j - 1], table[2, j]
        high, low = table[0, j - 1], table[0, j]
        for _ in range(2 if low > 0 else 0):
            x = math.sqrt(high * low)
            number, energy = _above(x, top, moments, values, weights, columns, aspect)
            number, energy = min(max(number, n_high), n_low), min(max(energy, e_high), e_low)
            if energy < wanted:
                high, n_high, e_high = x, number, energy
            else:
                low, n_low, e_low = x, number, energy
        part = (wanted - e_high) / (e_low - e_high) if e_low > e_high else 1.0
        number = n_high + part * (n_low - n_high)
        results[RANKS + k] = math.ceil(number * count - 0.1 - NUMBER_ERROR * count)


@kernel
def noise_figures(
    energies: Doubles,
    columns: Columns,
    parameters: float,
    epsilons: Doubles,
    results: Doubles,
    scratch: Doubles,
    lanes: Floats,
) -> None:
    """As of `noise_spectrum.noise_spectra`, of one scope.

    scratch : SCRATCH float64; lanes : (3, LANES) float32
    """
    bins = _bins(energies, scratch, lanes)
    thresholds, above = scratch[0], scratch[1]
    _of_bins(thresholds, above, bins, epsilons, results)
    count = above[bins - 1]
    if count * _unevenness(columns) > NEGLIGIBLE_ASPECT * parameters:
        nodes = _nodes(thresholds, above, bins, scratch[2], scratch[3])
        _of_few_parameters(
            scratch[2, :nodes], scratch[3, :nodes], columns, count, parameters, epsilons, scratch[4:], results
        )
    most = max(1.0, min(count, parameters))
    for k in range(results.size):
        results[k] = min(max(results[k], 1.0), most if k < RANKS else math.ceil(most))


@kernel
def figures_of_scopes(
    energies: Doubles,
    columns: Doubles,
    ends: NDArray[np.int64],
    parameters: Doubles,
    epsilons: Doubles,
    results: Doubles,
    scratch: Doubles,
    lanes: Floats,
) -> None:
    """As of `noise_spectrum.noise_spectra`.

    columns : of each scope its G shares, then its G energies; ends : (S + 1,), sums of G
    """
    for k in range(energies.shape[0]):
        first, middle, last = 2 * ends[k], ends[k] + ends[k + 1], 2 * ends[k + 1]
        own = columns[first:middle], columns[middle:last]
        noise_figures(energies[k], own, parameters[k], epsilons, results[k], scratch, lanes)


def c_module(dtype: np.dtype[np.floating[Any]]) -> tuple[str, str]:
    """(symbol, LLVM module) of `figures_of_scopes` as a C function; dtype : float64"""
    nb: Any = numba  # without types of its own
    carray = nb.carray
    numbers, size = nb.types.CPointer(nb.from_dtype(dtype)), nb.int64
    floats, sizes = nb.types.CPointer(nb.float32), nb.types.CPointer(size)

    @nb.cfunc(nb.void(numbers, size, size, numbers, sizes, numbers, numbers, size, numbers, numbers, floats))
    def entry(  # type: ignore[no-untyped-def]
        energies, scopes, rows, columns, ends, parameters, epsilons, count, results, scratch, lanes
    ):
        last = carray(ends, (scopes + 1,))
        figures_of_scopes(
            carray(energies, (scopes, rows)),
            carray(columns, (2 * last[scopes],)),
            last,
            carray(parameters, (scopes,)),
            carray(epsilons, (count,)),
            carray(results, (scopes, 2 + count)),
            carray(scratch, SCRATCH),
            carray(lanes, (3, LANES)),
        )

    return entry.native_name, entry.inspect_llvm()
