"""What the fused pass keeps and gives: its history of gradients, and the columns of its sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TILE = 1024
"""Columns handled together: a float64 history of a dozen vectors of this length fits the first cache."""

ENERGY = 0
"""Column of `sums`: ||g_t||^2."""
LAG_PRODUCT = 1
"""Column of `sums`: <g_t, g_{t-1}>, 0 at t = 0."""
INCREMENT = 2
"""Column of `sums`: ||g_t - g_{t-1}||^2, 0 at t = 0."""
NONFINITE = 3
"""Column of `sums`: number of entries that are NaN or infinite."""
NONZERO_TINY = 4
"""Column of `sums`: nonzero entries of rows with ||g_t||^2 below TINY, whose squares may have lost digits."""
TINY = 1e-280
PREDICTORS = 5
"""First column of `sums` that belongs to predictors: three each, see the next constants."""
RESIDUAL, PRODUCT, PREDICTION = 0, 1, 2
"""Offsets in a predictor's three columns: ||g_t - m_t||^2, <g_t, m_t>, ||m_t||^2."""


def sum_columns(predictors: int) -> int:
    """Number of columns of `sums` for that many predictors."""
    return PREDICTORS + 3 * predictors


def history_rows(lags: int, averages: int) -> int:
    """Rows of `history` for L lags and E averages: a ring of L + 1 gradients, E averages, one scratch row."""
    return lags + 1 + averages + 1


def new_history(columns: int, lags: int, averages: int) -> NDArray[np.float64]:
    """Empty history (tiles, L + 1 + E + 1, TILE) float64 for `columns` parameters, at t = 0."""
    tiles = -(-columns // TILE)
    return np.zeros((tiles, history_rows(lags, averages), TILE))


def narrowed(history: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """What must be kept of a history of `columns` parameters until the next block: few fill no tile."""
    return history if columns >= TILE else history[:, :, :columns].copy()


def widened(kept: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """The history that `narrowed` kept."""
    if columns >= TILE:
        return kept
    history = np.zeros((*kept.shape[:2], TILE))
    history[:, :, :columns] = kept
    return history
