"""Residuals of means and of weights on lags, from inner products of increments at most so many rows apart.

With h_0 = g_0 and h_t = g_t - g_{t-1}:

- mean of the last K: ||g_t - mean||^2 is the mean of ||g_t - g_s||^2 over the window, less that of
  ||g_s - g_u||^2 over half of its pairs (Lagrange's identity);
- weights a_1 .. a_p on the last p gradients: e_t = h_t - (sum a - 1) g_{t-1} - sum_i b_i h_{t-i}.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ...quick_dataclass import dataclass

Doubles = NDArray[np.float64]

LONGEST_MEAN = 256
"""Means of more gradients are not searched: an exponential average of decay 0.996 looks back as far."""
MOST_LAGS = 16
"""Gradients that a least-squares predictor combines at most."""


@dataclass(frozen=True)
class HistoryLags:
    """Products over n rows that follow one another.

    band : (W, n), [l, t] = <h_t, h_{t-l}>, 0 where there is no such row
    energy : (n,) ||g_t||^2; drift : (n,) <g_{t-1}, h_t>, 0 in row 0 of a run

    What the first rows say holds where they are a run's first; elsewhere they serve those behind them.
    """

    band: Doubles
    energy: Doubles
    drift: Doubles

    @property
    def rows(self) -> int:
        """n."""
        return self.energy.size

    def mean_residuals(self, longest: int) -> tuple[Doubles, Doubles]:
        """(n, K) each, of mean:1 .. mean:K, K = `longest`, at least 1 and at most W.

        ||g_t - m_t||^2, and the mean of ||g_t - g_s||^2 over the gradients g_s that make up m_t.
        """
        lengths = np.arange(1, longest + 1)[:, None]
        grown = self.band[:longest].copy()  # (K, n): ||g_t - g_{t-k}||^2 - ||g_{t-1} - g_{t-k}||^2
        grown[1:] *= 2
        _add_up(grown)
        near = _add_up(_sums_back(grown).copy())  # of ||g_t - g_{t-k}||^2
        behind = np.zeros_like(near)
        behind[1:, 1:] = near[:-1, :-1]
        apart_by = near / lengths
        found = apart_by - _sums_back(behind) / (lengths * lengths)
        for table in (found, apart_by):
            # Where there are fewer gradients than the mean would take, it takes them all.
            few = np.arange(min(longest, self.rows))
            all_of_them = np.append(self.energy[0], table[few[1:] - 1, few[1:]])
            table[:, : few.size] = np.where(lengths > few, all_of_them, table[:, : few.size])
        return np.maximum(found, 0.0).T, apart_by.T

    def mean_products(self, apart_by: Doubles) -> Doubles:
        """(n, K): <g_t, g_t - m_t> of mean:1 .. mean:K, from the second table of `mean_residuals`."""
        # 2 <g_t, g_t - g_s> = ||g_t - g_s||^2 + ||g_t||^2 - ||g_s||^2
        longest = apart_by.shape[1]
        before = np.zeros((longest, self.rows))
        for lag in range(1, min(longest, self.rows - 1) + 1):
            before[lag - 1, lag:] = self.energy[:-lag]
        lengths = np.minimum(np.arange(self.rows), np.arange(1, longest + 1)[:, None])
        means = np.cumsum(before, axis=0) / np.maximum(lengths, 1)
        return np.asarray((apart_by.T + self.energy - means).T / 2)

    def mean_product(self, length: int, apart_by: Doubles) -> Doubles:
        """(n,): <g_t, g_t - m_t> of mean:`length`. apart_by : of this length, as of `mean_residuals`"""
        before = np.zeros(self.rows)
        for lag in range(1, min(length, self.rows - 1) + 1):
            before[lag:] += self.energy[:-lag]
        counts = np.clip(np.arange(self.rows), 1, length)
        return np.asarray((apart_by + self.energy - before / counts) / 2)

    def lag_products(self, most: int) -> Doubles:
        """(n, p + 1, p + 1): at each t, of (h_t, g_{t-1}, h_{t-1}, ..., h_{t-p+1}), p = `most`."""
        table = np.zeros((self.rows, most + 1, most + 1))
        if not most:
            return table
        places = [0, *range(2, most + 1)]
        for i, row in enumerate(places):
            for j in range(i, most):
                column = places[j]
                table[i:, row, column] = self.band[j - i, : self.rows - i]
                table[:, column, row] = table[:, row, column]
        table[1:, 1, 1] = self.energy[:-1]
        table[:, 0, 1] = table[:, 1, 0] = self.drift
        own = self.drift + self.band[0]  # <g_t, h_t>
        for i in range(1, most):
            # g_{t-1} is g_{t-i-1} and the increments since.
            sums = np.zeros(self.rows)
            sums[i:] = own[: self.rows - i]
            for k in range(1, i):
                sums[i:] += self.band[i - k, i - k : self.rows - k]
            table[:, 1, i + 1] = table[:, i + 1, 1] = sums
        return table


def _sums_back(values: Doubles) -> Doubles:
    """(K, n): values[k, t] + values[k - 1, t - 1] + values[k - 2, t - 2] + ..., summed from the far end."""
    most, rows = values.shape
    slanted = np.zeros((most, rows + most))
    stride = slanted.strides[1]
    view = as_strided(slanted[0, most - 1 :], values.shape, (slanted.strides[0] - stride, stride))
    view[...] = values
    _add_up(slanted)
    return view


def _add_up(values: Doubles) -> Doubles:
    """The same rows, each with those above added. As np.cumsum, which is several times slower over rows."""
    for above, row in itertools.pairwise(values):
        row += above
    return values
