"""What advice takes beside sums: spectra of sampled gradient matrices, and of rolling windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass

WINDOW = 10
"""Increments of a rolling window."""
STRIDE = 5
"""Rows from one window to the next."""


@dataclass(frozen=True)
class MatrixSpectra:
    """Singular values of one tensor's gradient matrices, at sampled rows.

    shape : (m, n) of the matrix, a convolution's as (out, rest); rows : (k,) int64, indices t of the rows
    squares : (k, min(m, n)) float64, sigma_i^2, descending
    held : (k - 1, min(m, n)) float64, share of the next row's energy inside the r = 1 .. min(m, n) leading
    directions of a row, of the matrix's smaller side, in [0, 1]; NaN where either row is 0
    """

    shape: tuple[int, int]
    rows: NDArray[np.int64]
    squares: NDArray[np.float64]
    held: NDArray[np.float64]


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(m, n) of a tensor taken as a matrix: (out, rest) of a convolution; None for vectors and the like."""
    if len(shape) < 2:
        return None
    m, n = shape[0], int(np.prod(shape[1:], dtype=np.int64))
    return (m, n) if min(m, n) >= 2 else None
