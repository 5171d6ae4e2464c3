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
ONE_DIGIT = 10.0
HALF_OF_DIGITS = 1e7
"""By how much energies of gradients may exceed those of increments that are read off their products."""


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
    before: NDArray[np.float64] | None = None
    exact_before = True
    for number in range(max(0, first - 1), last):
        begin, end = number * window, min((number + 1) * window, stop)
        own = _with_row_before(rows, begin - start, end - start)
        gram = own @ own.T
        exact = _differences_are_exact(gram)
        if number >= first:
            height = end - begin
            pairs = [(WITHIN, own, gram)]
            if before is not None:
                pairs.append((ACROSS, before, before @ own.T))
            for at, left, products in pairs:
                into = out[number - first, :, at, : left.shape[0] - 1, :height]
                into[GRADIENTS] = products[1:, 1:]
                if exact and (at == WITHIN or exact_before):
                    into[INCREMENTS] = _of_increments(products)
                else:
                    into[INCREMENTS] = np.diff(left, axis=0) @ np.diff(own, axis=0).T
                # The first row of all stands twice.
                if begin == (window if at == ACROSS else 0):
                    into[INCREMENTS, 0] = 0.0
                if not begin:
                    into[INCREMENTS, :, 0] = 0.0
        before, exact_before = own, exact
    return out


def _with_row_before(rows: NDArray[np.floating[Any]], begin: int, end: int) -> NDArray[np.float64]:
    """(end - begin + 1, W) float64: rows begin - 1 .. end - 1; a first row without any before it twice."""
    out = np.empty((end - begin + 1, rows.shape[1]))
    out[1:] = rows[begin:end]
    out[0] = rows[max(0, begin - 1)]
    return out


def _differences_are_exact(gram: NDArray[np.float64]) -> bool:
    """Whether products of increments can be read off those of gradients, g_i g_j - g_i g_{j-1} - ....

    A difference of large numbers loses digits: it must not lose more than one of the largest increment's
    energy, nor more than half of those of any increment's.
    """
    squares = gram.diagonal()
    pairs = np.maximum(squares[1:], squares[:-1])
    energies = _of_increments(gram).diagonal()
    # The first row may stand twice, and then counts for nothing.
    energies, pairs = energies[1:], pairs[1:]
    if not energies.size or not np.isfinite(gram).all():
        return False
    return bool(ONE_DIGIT * energies.max() >= squares.max() and (HALF_OF_DIGITS * energies >= pairs).all())


def _of_increments(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products of increments (R - 1, S - 1) from those of gradients (R, S)."""
    by_rows = gram[1:] - gram[:-1]
    return np.asarray(by_rows[:, 1:] - by_rows[:, :-1])


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
        height = end - begin
        both = np.concatenate([_with_row_before(values, begin, end) for values in (first, second)])
        gram = both @ both.T
        parts = (slice(0, height + 1), slice(height + 1, None))
        places = ((FIRST, 0, 0), (SECOND, 1, 1), (BETWEEN, 0, 1))
        derived = all(_differences_are_exact(gram[part, part]) for part in parts)
        if not derived:
            sides = [np.diff(both[part], axis=0) for part in parts]
        for at, i, j in places:
            block = gram[parts[i], parts[j]]
            out[number, GRADIENTS, at, :height, :height] = block[1:, 1:]
            products = _of_increments(block) if derived else sides[i] @ sides[j].T
            if not begin:
                products[0] = products[:, 0] = 0.0
            out[number, INCREMENTS, at, :height, :height] = products
    return out
