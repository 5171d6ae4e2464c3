"""Rough seconds that spectra take on two cores of a recent server: what methods are weighed by."""

from __future__ import annotations

from collections.abc import Sequence

PROJECT_RATE = 6e9
"""Bytes a second."""
PRODUCT_RATE = 2e11
COLUMN_PRODUCT_RATE = 5e10
"""Pairs of entries a second, of Gram matrices over rows in float32 and over columns in float64."""
EIGEN_RATE = 1.5e10
"""Cubes of a matrix's size a second, for its eigenvalues; with vectors ten times as long."""
TYPICAL_BASIS = 64
"""Directions that the incremental method begins with, and that most logs do with."""


def exact_seconds(parameters: Sequence[int], rows: int) -> float:
    """Gram matrices and eigenvalues of every tensor, of so many parameters each, and of the whole model."""
    total = float(sum(parameters))
    if total < rows - 1:
        return rows * total**2 / COLUMN_PRODUCT_RATE + sum(
            float(size) ** 3 / EIGEN_RATE for size in _scopes(parameters)
        )
    sizes = (min(size, rows) for size in _scopes(parameters))
    return rows**2 * total / PRODUCT_RATE + sum(float(size) ** 3 / EIGEN_RATE for size in sizes)


def incremental_seconds(parameters: Sequence[int], rows: int) -> float:
    """Bases of every tensor and of the whole model, as long as they stay small."""
    basis = float(TYPICAL_BASIS)
    scopes = _scopes(parameters)
    products = 10 * basis * rows * float(sum(scopes)) / PRODUCT_RATE
    return products + len(scopes) * rows / basis * 10 * (2 * basis) ** 3 / EIGEN_RATE


def projection_seconds(parameters: Sequence[int], rows: int) -> float:
    """A projection of all rows."""
    return 4 * rows * float(sum(parameters)) / PROJECT_RATE


def sketch_seconds(parameters: Sequence[int], rows: int, dim: int) -> float:
    """A projection of all increments, and the spectra of the sketches."""
    return projection_seconds(parameters, rows) + len(parameters) * (
        2 * rows * float(dim) ** 2 / PRODUCT_RATE + 10 * min(rows, dim) ** 3 / EIGEN_RATE
    )


def _scopes(parameters: Sequence[int]) -> list[int]:
    """Parameters of each spectrum: the whole model's beside those of several tensors."""
    used = [size for size in parameters if size]
    return used if len(used) == 1 else [*used, sum(used)]
