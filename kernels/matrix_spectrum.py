"""Spectra of single gradient matrices, through the Gram matrix of their smaller side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gram import squared_singular_values
from .scaling import binary_exponent

SLICE = 1 << 12
"""Entries of the larger side that become float64 at a time."""


def squared_singular_values_of_rows(matrices: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(k, min(m, n)) float64 sigma_i^2, descending, of each of (k, m, n) matrices, float32 or float64.

    Products are formed in float64: values below about 1e-15 of the largest are rounding. NaN where a matrix
    is not finite.
    """
    lying = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.swapaxes(1, 2)
    return np.stack([_squares(matrix) for matrix in lying])


def _squares(matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    # Scaled by a power of two: squares of float64 gradients may leave its range.
    exponent = binary_exponent(float(np.abs(matrix).max(initial=0.0)))
    gram = np.zeros((matrix.shape[0], matrix.shape[0]))
    for first in range(0, matrix.shape[1], SLICE):
        part = np.ldexp(matrix[:, first : first + SLICE].astype(np.float64), -exponent)
        gram += part @ part.T
    return np.ldexp(squared_singular_values(gram), 2 * exponent)
