"""What the fused pass keeps and gives: its history of gradients, and the columns of its sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PANEL = 1024
"""Columns handled together: a float64 history of a dozen vectors of this length fits the first caches."""
ROW = PANEL + 24
"""Entries from one vector of the history to the next: at a power of two, all would share few cache sets."""

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


def history_shape(columns: int, lags: int, averages: int) -> tuple[int, int, int]:
    """(panels, L + 1 + E + 1, ROW) of a history of `columns` parameters; vectors fill PANEL of a row."""
    return -(-columns // PANEL), history_rows(lags, averages), ROW


def new_history(columns: int, lags: int, averages: int) -> NDArray[np.float64]:
    """Empty history for `columns` parameters, at t = 0."""
    return np.zeros(history_shape(columns, lags, averages))


@dataclass(frozen=True)
class CarriedHistory:
    """What is kept of a history until the next block: in as many digits as it has.

    Few columns fill no panel.

    gradients : (panels, L + 1, width), the ring, in the type that gradients have
    averages : (panels, E, width) float64
    """

    gradients: NDArray[np.floating[Any]]
    averages: NDArray[np.float64]

    @classmethod
    def of(
        cls, history: NDArray[np.float64], columns: int, lags: int, dtype: np.dtype[np.floating[Any]]
    ) -> CarriedHistory:
        """Of a history of `columns` parameters whose gradients are of type `dtype`."""
        width = min(columns, PANEL)
        return cls(history[:, : lags + 1, :width].astype(dtype), history[:, lags + 1 : -1, :width].copy())

    def restore(self, history: NDArray[np.float64]) -> None:
        """Put it back into a history, whose other columns are not looked at."""
        lags, width = self.gradients.shape[1:]
        history[:, :lags, :width] = self.gradients
        history[:, lags:-1, :width] = self.averages


def carried_bytes(lags: int, averages: int, entry: int) -> int:
    """Bytes that a column carries to the next block. entry : of a gradient's entry"""
    return (lags + 1) * entry + 8 * averages
