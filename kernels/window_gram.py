"""Gram matrices of consecutive windows of rows, and what follows from them about leading subspaces.

For windows of gradients X_1, X_2 (W x D), X_1 X_1^T = U S^2 U^T gives the leading right singular vectors
V_1 = S^-1 U^T X_1 without forming them: coordinates of a gradient g in them are S^-1 U^T (X_1 g), and the
cosines between two such bases are V_1 V_2^T = S_1^-1 U_1^T (X_1 X_2^T) U_2 S_2^-1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scaling import binary_exponent, binary_exponents
from .window_rows import WindowRows, of_both_kinds, windows_of

GRADIENTS, INCREMENTS = 0, 1
"""First index of a window's matrices: of gradients g_t, or of increments g_t - g_{t-1}."""
WITHIN, ACROSS = 0, 1
"""Second index: X_w X_w^T of the window itself, or X_{w-1} X_w^T with the window before."""
FLOOR = 1e-10
"""Directions with less than this share of the largest sigma^2 are not used: divided by sigma, the rounding of
the Gram matrix (about 1e-16 of the largest sigma^2) would turn them by more than 1e-5 or so."""


def window_grams(
    rows: NDArray[np.floating[Any]], start: int, stop: int, window: int, first: int, last: int
) -> NDArray[np.float64]:
    """Matrices of windows first .. last - 1, from a set of parameters' gradients.

    Parameters
    ----------
    rows : (stop - start, W) float32 or float64, gradients g_start .. g_{stop-1}; they begin no later than the
        row before window first - 1
    window : rows of a window; window w holds rows w * window .. (w + 1) * window - 1, or fewer at the end

    Returns
    -------
    (last - first, 2, 2, window, window) float64; zeros behind the end of a short window

    Where a difference of Gram entries would cancel, increments are formed in float64 before they are
    multiplied. There is no increment at row 0, which counts as zero.
    """
    out = np.zeros((last - first, 2, 2, window, window))
    numbers = range(max(0, first - 1), last)
    bounds = [(number * window - start, min((number + 1) * window, stop) - start) for number in numbers]
    buffers = np.empty((2, 2 * window, rows.shape[1]))
    before: tuple[WindowRows, NDArray[np.float64]] | None = None
    for number, own in zip(numbers, windows_of(rows, bounds) if bounds else (), strict=True):
        values, (own,), (within,) = _multiplied((own,), ((0, 0),), buffers[number % 2])
        if number >= first:
            height = own.end - own.begin
            into = out[number - first, :, :, :, :height]
            into[:, WITHIN, :height] = within
            if before is not None:
                into[:, ACROSS] = of_both_kinds(before[0], own, before[1] @ values.T)
        before = own, values
    return out


def _multiplied(
    windows: Sequence[WindowRows], pairs: Sequence[tuple[int, int]], buffer: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Sequence[WindowRows], list[NDArray[np.float64]]]:
    """Windows over the same columns, in forms that keep their digits, and their products.

    pairs : of windows whose products are returned, (i, i) of each window i first; buffer : for their rows

    Returns the rows that were multiplied, the windows, and (2, rows of i, rows of j) for each pair
    """
    while True:
        stops = list(itertools.accumulate((window.count for window in windows), initial=0))
        values = buffer[: stops[-1]]
        for at, window in zip(stops, windows, strict=False):
            window.write(values[at:])
        gram = values @ values.T
        both = [
            of_both_kinds(windows[i], windows[j], gram[stops[i] : stops[i + 1], stops[j] : stops[j + 1]])
            for i, j in pairs
        ]
        checked = [
            window.checked(float(gram[at, at]), own)
            for window, at, own in zip(windows, stops, both, strict=False)
        ]
        if all(one is other for one, other in zip(checked, windows, strict=True)):
            return values, windows, both
        windows = checked


@dataclass(frozen=True)
class LeadingSubspace:
    """The leading right singular subspace of a window X, V = coefficients^T X 2^-exponent, never formed.

    coefficients : (rows, k) float64, U_k S_k^-1 of X scaled by 2^-exponent
    """

    coefficients: NDArray[np.float64]
    exponent: int

    @property
    def directions(self) -> int:
        """Its dimension."""
        return int(self.coefficients.shape[1])


def leading_subspace(within: NDArray[np.float64], directions: int) -> LeadingSubspace | None:
    """The leading subspace of at most `directions` dimensions, from X X^T (rows, rows).

    As many as stand clear of rounding (see FLOOR); None without energy, or where the matrix is not finite.
    """
    if within.shape[0] == 0 or not np.isfinite(within).all():
        return None
    largest = float(within.diagonal().max())
    if largest <= 0.0:
        return None
    # A power of two, so that energies near the ends of float64 survive.
    exponent = binary_exponent(largest) // 2
    squares, vectors = np.linalg.eigh(np.ldexp(within, -2 * exponent))
    kept = squares[::-1][:directions]
    kept = kept[kept > FLOOR * squares[-1]]
    if not kept.size:
        return None
    return LeadingSubspace(vectors[:, ::-1][:, : kept.size] / np.sqrt(kept), exponent)


def fractions_inside(
    subspace: LeadingSubspace, across: NDArray[np.float64], energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(rows,) float64 |V g|^2 / |g|^2, in [0, 1]: the share of each row's energy inside of a subspace.

    across : (rows of the subspace's window, rows), X_1 X_2^T; energies : (rows,), |g|^2. NaN where g is 0.
    """
    shares = np.full(energies.size, np.nan)
    known = energies > 0
    exponents = binary_exponents(energies[known]) // 2
    scaled = np.ldexp(across[:, known], -(exponents + subspace.exponent))
    inside = np.square(subspace.coefficients.T @ scaled).sum(axis=0)
    shares[known] = np.clip(inside / np.ldexp(energies[known], -2 * exponents), 0.0, 1.0)
    return shares


def mean_squared_cosine(
    first: LeadingSubspace, second: LeadingSubspace, across: NDArray[np.float64]
) -> float:
    """|V_1 V_2^T|_F^2 / min(k_1, k_2), in [0, 1]: mean squared cosine of the principal angles.

    across : X_1 X_2^T (rows of the first's window, rows of the second's)
    """
    scaled = np.ldexp(across, -(first.exponent + second.exponent))
    cosines = first.coefficients.T @ scaled @ second.coefficients
    least = min(first.directions, second.directions)
    return float(min(1.0, np.square(cosines).sum() / least))


FIRST, SECOND, BETWEEN = 0, 1, 2
"""Second index of matrices of two runs: A A^T, B B^T, A B^T."""


def paired_grams(
    first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]], window: int
) -> NDArray[np.float64]:
    """Matrices of the windows of two runs, from their gradients of the same parameters at the same steps.

    first, second : (N, W) float32 or float64

    Returns
    -------
    (windows, 2, 3, window, window) float64: of gradients and increments, A A^T, B B^T and A B^T of each
    window; zeros behind the end of a short last window. Increments as in `window_grams`.
    """
    rows, columns = first.shape
    bounds = [(begin, min(begin + window, rows)) for begin in range(0, rows, window)]
    out = np.zeros((len(bounds), 2, 3, window, window))
    buffer = np.empty((4 * window, columns))
    sides = (windows_of(values, bounds) for values in (first, second))
    for into, (begin, end), windows in zip(out, bounds, zip(*sides, strict=True), strict=True):
        # One product of both runs' rows together, of which BLAS forms half.
        _, _, products = _multiplied(windows, ((0, 0), (1, 1), (0, 1)), buffer)
        for place, both in zip((FIRST, SECOND, BETWEEN), products, strict=True):
            into[:, place, : end - begin, : end - begin] = both
    return out
