"""Spectra of single gradient matrices, and how much of one lies in the leading directions of another.

Through the Gram matrix of their smaller side, whose eigenvectors are the singular vectors of that side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scaling import binary_exponent

SLICE = 1 << 12
"""Entries of the larger side that become float64 at a time."""

Doubles = NDArray[np.float64]


def spectra_of_rows(matrices: NDArray[np.floating[Any]]) -> tuple[Doubles, Doubles]:
    """Spectra of k matrices, and what each one's leading directions hold of the next matrix.

    matrices : (k, m, n) float32 or float64

    Returns (k, s) float64 sigma_i^2, descending, s = min(m, n), and (k - 1, s) float64: the share of
    ||G_{j+1}||_F^2 inside the r = 1 .. s leading singular vectors of G_j, of the smaller side, in [0, 1]; NaN
    where either is 0. Products are formed in float64: values below about 1e-15 of the largest are rounding.
    Both are NaN where a matrix is not finite.
    """
    lying = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.swapaxes(1, 2)
    count, side = lying.shape[:2]
    squares, held = np.empty((count, side)), np.full((max(0, count - 1), side), np.nan)
    before = None
    for at, matrix in enumerate(lying):
        gram, exponent = _scaled_gram(matrix)
        if not np.isfinite(gram).all():
            squares[at], before = np.nan, None
            continue
        energy = float(gram.trace())
        if before is not None and energy > 0:
            held[at - 1] = np.minimum(np.cumsum(((gram @ before) * before).sum(axis=0)) / energy, 1.0)
        values, vectors = np.linalg.eigh(gram)
        squares[at] = np.ldexp(np.maximum(values[::-1], 0.0), 2 * exponent)
        before = vectors[:, ::-1] if energy > 0 else None
    return squares, held


def _scaled_gram(matrix: NDArray[np.floating[Any]]) -> tuple[Doubles, int]:
    """G G^T over 4^exponent. Scaled by a power of two: squares of float64 gradients may leave its range."""
    exponent = binary_exponent(float(np.abs(matrix).max(initial=0.0)))
    gram = np.zeros((matrix.shape[0], matrix.shape[0]))
    for first in range(0, matrix.shape[1], SLICE):
        part = np.ldexp(matrix[:, first : first + SLICE].astype(np.float64), -exponent)
        gram += part @ part.T
    return gram, exponent
