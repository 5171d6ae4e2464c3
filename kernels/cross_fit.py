"""Spectrum of a sketched matrix, cross-fitted: what directions found in one half leave of the other half.

The rows of Y are sketched increments, Y = Z S^T. Its columns fall into two independent halves Y1, Y2, each
scaled so that its Gram matrix is unbiased. The first k left singular vectors W_k of Y1 know nothing of the
signs in Y2: ||(I - W_k W_k^T) Y2||^2 estimates ||(I - W_k W_k^T) Z||^2 without bias, and the least rank-k
residual of Z is at most that. Dense algebra through NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scaling import binary_exponent

Doubles = NDArray[np.float64]

TOO_LARGE = "increments exceed the largest float32"
"""Where sums of increments are not finite."""
LEAST_SHARE = 1e-12
"""Directions of less than this share of the largest eigenvalue are rounding."""


@dataclass(frozen=True)
class CrossFit:
    """Figures of Y, in units of 4^exponent. Index k of an array: k directions taken away.

    squares : eigenvalues of Y Y^T, descending; energy : ||Y||^2
    left : (r + 1,) mean over both ways of ||P_k Y2||^2, P_k = I - W_k W_k^T
    left_quartic : (r + 1,) of tr((P_k Y2 Y2^T)^2); left_cross : (r + 1,) of tr(P_k (Y2 Y2^T)^2)
    product : tr(Y1 Y1^T Y2 Y2^T), without bias for the sum of sigma_i^4
    """

    exponent: int
    energy: float
    squares: Doubles
    left: Doubles
    left_quartic: Doubles
    left_cross: Doubles
    product: float


def cross_fit(sketch: Doubles) -> CrossFit:
    """The figures of Y (n, M) float64, M even, its halves being its first and its last M / 2 columns.

    Raises OverflowError where Y is not finite.
    """
    largest = float(np.abs(sketch).max(initial=0.0))
    if not np.isfinite(largest):
        raise OverflowError(TOO_LARGE)
    exponent = binary_exponent(largest)
    scaled = np.ldexp(sketch, -exponent)
    rows, dim = scaled.shape
    half = dim // 2
    if rows <= half:
        first, second = scaled[:, :half], scaled[:, half:]
        grams = 2.0 * (first @ first.T), 2.0 * (second @ second.T)
        whole = (grams[0] + grams[1]) / 2
        ways = [_left_by_rows(*grams), _left_by_rows(*reversed(grams))]
        product = float(np.sum(grams[0] * grams[1]))
    else:
        whole = scaled.T @ scaled
        inner = 2.0 * whole
        blocks = inner[:half, :half], inner[:half, half:], inner[half:, half:]
        ways = [_left_by_columns(*blocks), _left_by_columns(blocks[2], blocks[1].T, blocks[0])]
        product = float(np.sum(blocks[1] ** 2))
    squares = np.maximum(np.linalg.eigvalsh(whole)[::-1], 0.0)
    count = max(way[0].size for way in ways)
    left, quartic, cross = (
        np.mean([np.pad(way[part], (0, count - way[part].size), "edge") for way in ways], axis=0)
        for part in range(3)
    )
    # A projection only takes away; n directions leave nothing.
    left, cross = np.maximum(left, 0.0), np.maximum(cross, 0.0)
    quartic = np.maximum(quartic, left**2 / half)
    return CrossFit(exponent, float(np.trace(whole)), squares, left, quartic, cross, product)


def _left_by_rows(gram: Doubles, other: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """From K1 = Y1 Y1^T and K2 (n, n): what is left of Y2 without 0, 1, ... n directions of Y1."""
    _, vectors = np.linalg.eigh(gram)
    vectors = vectors[:, ::-1]
    turned = other @ vectors
    inside = vectors.T @ turned
    left = _from_the_end(inside.diagonal())
    quartic = _from_the_end((inside**2)[::-1, ::-1].cumsum(axis=0).cumsum(axis=1).diagonal(), summed=True)
    cross = _from_the_end(np.sum(turned**2, axis=0))
    return left, quartic, cross


def _from_the_end(values: Doubles, *, summed: bool = False) -> Doubles:
    """Sums of the last n, n - 1, ... 0 values; `summed`: they are there in the opposite order."""
    sums = values if summed else np.cumsum(values[::-1])
    return np.concatenate([sums[::-1], [0.0]])


def _left_by_columns(gram: Doubles, cross_gram: Doubles, other: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """The same from Y1^T Y1, Y1^T Y2 and Y2^T Y2 (M/2, M/2), for as many directions as Y1 has."""
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = int(np.sum(values > LEAST_SHARE * max(values[0], 0.0))) if values.size else 0
    inner = (vectors[:, :rank] / np.sqrt(values[:rank])).T @ cross_gram  # W^T Y2
    turned = inner @ other
    products = inner @ inner.T
    taken = np.cumsum(np.concatenate([[0.0], products.diagonal()]))
    taken_cross = np.cumsum(np.concatenate([[0.0], np.sum(turned * inner, axis=1)]))
    block = np.concatenate([[0.0], (products**2).cumsum(axis=0).cumsum(axis=1).diagonal()])
    quartic = float(np.sum(other**2))
    return float(np.trace(other)) - taken, quartic - 2.0 * taken_cross + block, quartic - taken_cross
