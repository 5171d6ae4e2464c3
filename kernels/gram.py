"""Gram matrices of increments and their eigenvalues: BLAS and LAPACK through NumPy, outside the JIT.

Products of increments are summed inside BLAS over one tile of columns only, and tiles are added in
float64. Where single precision is asked for, each tile's diagonal is held against the same energies
summed in float64 by the fused pass, and a tile that is off is formed again in double precision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scaling import binary_exponents
from .short_gram import short_gram

SAFE_ENERGY = (1e-20, 1e36)
"""Sum and maximum of a tile's row energies within which float32 products neither vanish nor overflow."""
LAPACK_EXPONENT = 200
"""Exponents of two up to which LAPACK squares entries with ease."""
DIAGONAL_TOLERANCE = 3e-7
"""Root mean square of the diagonal's relative error above which a float32 tile is formed again."""


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread: parallelism is over tiles, and results then don't depend on its width."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def safe_in_single(energies: NDArray[np.floating[Any]]) -> bool:
    """Whether float32 products of rows of these energies neither vanish nor overflow."""
    total = float(energies.sum(dtype=np.float64))
    return total >= SAFE_ENERGY[0] and float(energies.max()) <= SAFE_ENERGY[1]


def few_rows_gram(block: NDArray[np.floating[Any]], row: int, first: int, last: int) -> NDArray[np.float64]:
    """`row_gram` in double precision of the rows from `row` on, for columns first .. last - 1 of a block.

    block : (T, W) float32 or float64, C order, of which T - row is at most `short_gram.MOST_ROWS`

    Raises OverflowError as `row_gram` does.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        gram = short_gram(block, row, first, last)
    if not np.isfinite(gram.diagonal()).all():
        finite_doubles(block[row:, first:last])
    return gram


def row_gram(
    increments: NDArray[np.floating[Any]], energies: NDArray[np.float64], single: bool
) -> NDArray[np.floating[Any]]:
    """H^T H over one tile of parameters, from rows that hold the increments.

    Parameters
    ----------
    increments : (R, W) float32 or float64, one increment h_t a row
    energies : (R,) float64, ||h_t||^2 over the same columns
    single : float32 products are good enough if they pass the check

    Returns
    -------
    (R, R) symmetric, float32 or float64

    Raises OverflowError where increments are infinite: float32 gradients can be too far apart for float32.
    """
    if single and _may_be_single(increments, energies):
        gram = increments @ increments.T
        if _is_close(gram.diagonal(), energies):
            return gram
    doubles = finite_doubles(increments)
    return doubles @ doubles.T


def stacked_gram(
    basis: NDArray[np.floating[Any]],
    increments: NDArray[np.floating[Any]],
    energies: NDArray[np.float64],
    single: bool,
) -> NDArray[np.floating[Any]]:
    """Gram matrix of the rows [B; X] over some columns, by one product.

    basis : (L, W) B; increments : (R, W) X of its type; energies, single : of X, as of `row_gram`

    Returns (L + R, L + R) symmetric, float32 or float64. Raises OverflowError as `row_gram` does.
    """
    rows = basis.shape[0]
    if not rows:
        return row_gram(increments, energies, single)
    stack = np.concatenate([basis, increments])
    if single and _may_be_single(stack, energies):
        with np.errstate(over="ignore", invalid="ignore"):  # looked for at once
            gram: NDArray[np.floating[Any]] = stack @ stack.T
        own, diagonal = gram.diagonal()[:rows], gram.diagonal()[rows:]
        if (safe_in_single(own) or not basis.any()) and _is_close(diagonal, energies):
            return gram
    finite_doubles(increments)
    doubles = stack.astype(np.float64, copy=False)
    return doubles @ doubles.T


def cross_gram(
    rows: NDArray[np.floating[Any]], basis: NDArray[np.floating[Any]], single: bool
) -> NDArray[np.floating[Any]]:
    """X B^T, (R, L) float32 or float64, of rows X (R, W) and B (L, W) of one type.

    single : float32 products of X with itself were good enough
    """
    if single and rows.dtype == np.float32:
        with np.errstate(over="ignore", invalid="ignore"):  # looked for at once
            lengths = np.einsum("ij,ij->i", basis, basis)
            gram: NDArray[np.floating[Any]] = rows @ basis.T
        if safe_in_single(lengths):
            return gram
    return rows.astype(np.float64, copy=False) @ basis.astype(np.float64, copy=False).T


def _may_be_single(rows: NDArray[np.floating[Any]], energies: NDArray[np.float64]) -> bool:
    return rows.dtype == np.float32 and (not energies.any() or safe_in_single(energies))


def _is_close(diagonal: NDArray[np.floating[Any]], energies: NDArray[np.float64]) -> bool:
    """Whether a diagonal of single precision is what float64 energies say."""
    nonzero = energies > 0
    if not nonzero.any():
        return True
    error = diagonal[nonzero] / energies[nonzero] - 1.0
    return float(np.mean(error * error)) <= DIAGONAL_TOLERANCE**2


def column_gram(increments: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """H H^T, (W, W) float64, from (R, W) rows of increments: the small side when W < R.

    Raises OverflowError as `row_gram` does.
    """
    doubles = finite_doubles(increments)
    return doubles.T @ doubles


def finite_doubles(increments: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    if not np.isfinite(increments).all():
        raise OverflowError("increments exceed the largest float32")
    return increments.astype(np.float64, copy=False)


def squares_without(gram: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
    """(n - last + first,) `squared_singular_values` of an (n, n) matrix without rows first .. last - 1."""
    size = gram.shape[0]
    kept = np.r_[0:first, last:size]
    return squared_singular_values(gram[np.ix_(kept, kept)])


def squared_singular_values(grams: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., n) sigma_i^2, descending, of H from H^T H or H H^T (..., n, n) float64: of one matrix or many.

    Rounding below 0 becomes 0. NaN where a matrix is not finite.

    Matrices with energies near the ends of float64 are scaled by powers of two, so that they survive LAPACK.
    """
    if grams.size == 0:
        return np.zeros(grams.shape[:-1])
    finite = np.asarray(np.isfinite(grams).all(axis=(-2, -1)))
    if not finite.all():
        grams = np.where(finite[..., None, None], grams, 0.0)
    exponents = binary_exponents(grams.diagonal(axis1=-2, axis2=-1).max(axis=-1))
    if np.abs(exponents).max() <= LAPACK_EXPONENT:
        exponents = np.zeros_like(exponents)  # LAPACK works on a copy: a scaled one would be another
    else:
        grams = np.ldexp(grams, -exponents[..., None, None])
    values = np.linalg.eigvalsh(grams)[..., ::-1]
    with np.errstate(over="ignore"):
        squares = np.ldexp(np.maximum(values, 0.0), exponents[..., None])
    return np.where(finite[..., None], squares, np.nan)
