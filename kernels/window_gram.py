"""Gram matrices of consecutive windows of rows, and what follows from them about leading subspaces.

For windows of gradients X_1, X_2 (W x D), X_1 X_1^T = U S^2 U^T gives the leading right singular vectors
V_1 = S^-1 U^T X_1 without forming them: coordinates of a gradient g in them are S^-1 U^T (X_1 g), and the
cosines between two such bases are V_1 V_2^T = S_1^-1 U_1^T (X_1 X_2^T) U_2 S_2^-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scaling import binary_exponent, binary_exponents

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

    Increments are formed in float64 before they are multiplied: a difference of Gram entries would cancel.
    There is no increment at row 0, which counts as zero.
    """
    out = np.zeros((last - first, 2, 2, window, window))
    before: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    for number in range(max(0, first - 1), last):
        begin, end = number * window, min((number + 1) * window, stop)
        above = rows[begin - start - 1 : end - start] if begin else rows[: end - start]
        doubles = above.astype(np.float64)
        increments = np.diff(doubles, axis=0)
        if begin:
            doubles = doubles[1:]
        else:
            increments = np.concatenate([np.zeros((1, doubles.shape[1])), increments])
        if number >= first:
            height = end - begin
            for kind, values in enumerate((doubles, increments)):
                out[number - first, kind, WITHIN, :height, :height] = values @ values.T
                if before is not None:
                    out[number - first, kind, ACROSS, :, :height] = before[kind] @ values.T
        before = doubles, increments
    return out


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
    rows = first.shape[0]
    out = np.zeros((-(-rows // window), 2, 3, window, window))
    for number, begin in enumerate(range(0, rows, window)):
        end = min(begin + window, rows)
        sides = []
        for values in (first, second):
            above = values[max(0, begin - 1) : end].astype(np.float64)
            increments = np.diff(above, axis=0)
            if not begin:
                increments = np.concatenate([np.zeros((1, above.shape[1])), increments])
            sides.append((above[1:] if begin else above, increments))
        height = end - begin
        for kind in (GRADIENTS, INCREMENTS):
            a, b = sides[0][kind], sides[1][kind]
            for at, (left, right) in ((FIRST, (a, a)), (SECOND, (b, b)), (BETWEEN, (a, b))):
                out[number, kind, at, :height, :height] = left @ right.T
    return out
