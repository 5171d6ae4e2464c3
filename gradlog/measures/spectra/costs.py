"""Rough seconds that spectra take on two cores of a recent server: what methods are weighed by."""

from __future__ import annotations

from collections.abc import Sequence

from ...engine.costs import CORES
from ...engine.measure import CoreSeconds

PROJECT_RATE = 6e9
"""Bytes a second."""
PRODUCT_RATE = 2e11
COLUMN_PRODUCT_RATE = 5e10
"""Pairs of entries a second, of Gram matrices over rows in float32 and over columns in float64."""
EIGEN_RATE = 1.5e10
"""Cubes of a matrix's size a second, by one core, for its eigenvalues; with vectors ten times as long."""
LEFT_OUT_FACTOR = 2.6
"""Times the eigenvalues of a matrix, those without each stretch of increments."""
TYPICAL_BASIS = 64
"""Directions that the incremental method begins with, and that most logs do with."""


def exact_seconds(parameters: Sequence[int], rows: int) -> float:
    """Gram matrices and eigenvalues of every tensor, of so many parameters each, and of the whole model."""
    return _product_seconds(parameters, rows) + sum(_eigen_seconds(n, rows) for n in _scopes(parameters))


def exact_core_seconds(parameters: Sequence[int], rows: int, left_out: int) -> CoreSeconds:
    """The same by who takes it. left_out : stretches of increments that the whole model is taken without"""
    of_tensors = [] if len(_scopes(parameters)) == 1 else parameters
    return CoreSeconds(
        products=CORES * _product_seconds(parameters, rows),
        spectra=sum(_eigen_seconds(size, rows) for size in of_tensors),
        at_end=_eigen_seconds(sum(parameters), rows) * (1 + LEFT_OUT_FACTOR * bool(left_out)),
    )


def _product_seconds(parameters: Sequence[int], rows: int) -> float:
    total = float(sum(parameters))
    if total < rows - 1:
        return rows * total**2 / COLUMN_PRODUCT_RATE
    return rows**2 * total / PRODUCT_RATE


def _eigen_seconds(parameters: int, rows: int) -> float:
    return float(min(parameters, rows)) ** 3 / EIGEN_RATE


def incremental_seconds(parameters: Sequence[int], rows: int) -> float:
    """Bases of every tensor and of the whole model, between those that stay small and those that grow."""
    basis = float(TYPICAL_BASIS)
    scopes = _scopes(parameters)
    products = 21 * basis * rows * float(sum(scopes)) / PRODUCT_RATE
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
