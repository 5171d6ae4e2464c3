"""Residuals of any history-based predictor, from inner products of a scope's first gradient and increments.

With h_0 = g_0 and h_t = g_t - g_{t-1}, the Gram matrix C[s, t] = <h_s, h_t> holds all that a linear predictor
of the past can be judged by. What is wanted is expressed in increments, so that predictors whose weights add
up to 1 never come out as a difference of large numbers:

- exponential average of decay B: e_t = g_t - s_t follows e_t = h_t + B e_{t-1}, e_0 = g_0;
- mean of the last K: ||g_t - mean||^2 is the mean of ||g_t - g_s||^2 over the window, less that of
  ||g_s - g_u||^2 over half of its pairs (Lagrange's identity);
- weights a_1 .. a_p on the last p gradients: e_t = h_t - (sum a - 1) g_{t-1} - sum_i b_i h_{t-i}.

Plain NumPy over slices of rows: memory is that of as large a matrix again, and of a few (SLICE, N) arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

SLICE = 256
"""Rows handled together."""
LONGEST_MEAN = 256
"""Means of more gradients are not searched: an exponential average of decay 0.996 looks back as far."""
MOST_LAGS = 16
"""Gradients that a least-squares predictor combines at most."""


@dataclass(frozen=True)
class StepProducts:
    """Per-step sums of one scope, (N,) float64 each, summed in float64 by the fused pass.

    energy : ||g_t||^2; lag_product : <g_t, g_{t-1}>; increment : ||g_t - g_{t-1}||^2; both 0 at t = 0
    """

    energy: Doubles
    lag_product: Doubles
    increment: Doubles


class HistoryGram:
    """One scope's Gram matrix of [g_0, h_1, ..., h_{N-1}], (N, N) float64, symmetric.

    Its diagonal is taken from `steps`, which are summed in float64.
    """

    def __init__(self, gram: Doubles, steps: StepProducts, longest_mean: int = LONGEST_MEAN) -> None:
        """longest_mean : means of more gradients are left out"""
        self._longest_mean = longest_mean
        self._gram = gram
        self.rows = gram.shape[0]
        self.energy = steps.energy
        self.diagonal = steps.increment.copy()
        self.diagonal[0] = steps.energy[0]
        self.drift = np.zeros(self.rows)
        """<g_{t-1}, h_t>"""
        self.drift[1:] = steps.lag_product[1:] - steps.energy[:-1]

    @functools.cached_property
    def _lower(self) -> list[Doubles]:
        gram = self._gram
        return [
            _by_lag(np.tril(gram[first:last, :last], first - 1), first, last)
            for first, last in self._slices()
        ]

    def crossings(self, decays: Doubles) -> Doubles:
        """(N, Q): <h_t, e_{t-1}> for each of Q decays B, in [0, 1]."""
        found = np.zeros((self.rows, decays.size))
        powers = np.ones((self.rows, decays.size))
        powers[1:] = decays
        powers = np.ascontiguousarray(np.cumprod(powers, axis=0)[::-1])
        for (first, last), lower in zip(self._slices(), self._lower, strict=True):
            found[first:last] = lower @ powers[self.rows - last :]
        return found

    def average_residuals(self, decays: Doubles, crossings: Doubles) -> Doubles:
        """(N, Q): ||e_t||^2."""
        return average_residuals(self.diagonal, decays, crossings)

    def average_products(self, decays: Doubles, crossings: Doubles) -> Doubles:
        """(N, Q): <g_t, e_t>."""
        return average_products(self.diagonal + self.drift, decays, crossings)

    def pair_residuals(
        self, first: Doubles, second: Doubles, first_crossings: Doubles, second_crossings: Doubles
    ) -> Doubles:
        """(N, Q): <e_t, e'_t> of Q pairs of decays."""
        return pair_residuals(self.diagonal, first, second, first_crossings, second_crossings)

    def mean_residuals(self) -> tuple[Doubles, Doubles]:
        """(N, W) each, of mean:K for K = 1 .. W, W = min(N - 1, longest mean), at least 1.

        ||g_t - m_t||^2, and the mean of ||g_t - g_s||^2 over the gradients g_s that make up m_t.
        """
        width = max(1, min(self.rows - 1, self._longest_mean))
        found, apart_by = np.empty((self.rows, width)), np.empty((self.rows, width))
        distances = np.zeros(self.rows)
        pairs = np.zeros(self.rows)
        lengths = np.arange(1, width + 1)
        for first, last in self._slices():
            left = max(0, first - width)
            lower = np.tril(self._gram[first:last, left:last], first - left - 1)
            # Suffix sums give <h_t, g_{t-1} - g_s>, and those the growth of ||g_t - g_s||^2 with t.
            between = _suffix_sums(lower) - lower
            grown = self.diagonal[first:last, None] + 2 * between
            grown = np.tril(grown, first - left - 1)
            grown[0] += distances[left:last]
            apart = np.cumsum(grown, axis=0)
            distances[left:last] = apart[-1]
            window = _suffix_sums(apart)
            inside = np.concatenate([pairs[None, left:last], window])
            inside = np.cumsum(inside, axis=0)
            pairs[left:last] = inside[-1]
            near = _by_lag(window, first - left, width)[:, ::-1]
            within = _by_lag(inside[:-1], first - left, width)[:, ::-1]
            apart_by[first:last] = near / lengths
            found[first:last] = apart_by[first:last] - within / (lengths * lengths)
        for table in (found, apart_by):
            for t in range(min(self.rows, width)):  # fewer gradients than the mean would take
                table[t, t:] = table[t, t - 1] if t else self.energy[0]
        return np.maximum(found, 0.0), apart_by

    def mean_products(self, apart_by: Doubles) -> Doubles:
        """(N, W): <g_t, g_t - m_t> of mean:K for K = 1 .. W, from the second table of `mean_residuals`."""
        # 2 <g_t, g_t - g_s> = ||g_t - g_s||^2 + ||g_t||^2 - ||g_s||^2
        before = np.zeros_like(apart_by)
        for lag in range(1, min(apart_by.shape[1], self.rows - 1) + 1):
            before[lag:, lag - 1] = self.energy[:-lag]
        lengths = np.minimum(np.arange(self.rows)[:, None], np.arange(1, apart_by.shape[1] + 1))
        means = np.cumsum(before, axis=1) / np.maximum(lengths, 1)
        return np.asarray((apart_by + self.energy[:, None] - means) / 2)

    def lag_products(self, most: int) -> Doubles:
        """(N, p + 1, p + 1): at each t, of (h_t, g_{t-1}, h_{t-1}, ..., h_{t-p+1}), p = `most`."""
        table = np.zeros((self.rows, most + 1, most + 1))
        if not most:
            return table
        # band[t, l] = <h_t, h_{t-l}>; g_{t-1} is the sum of all increments before.
        band = np.zeros((self.rows, most))
        band[:, 0] = self.diagonal
        for lag in range(1, min(most, self.rows)):
            band[lag:, lag] = self._gram.diagonal(-lag)
        places = [0, *range(2, most + 1)]
        for i, row in enumerate(places):
            for j in range(i, most):
                column = places[j]
                table[i:, row, column] = band[: self.rows - i, j - i]
                table[:, column, row] = table[:, row, column]
        table[1:, 1, 1] = self.energy[:-1]
        table[:, 0, 1] = table[:, 1, 0] = self.drift
        own = self.drift + self.diagonal  # <g_t, h_t>
        for i in range(1, most):
            sums = np.zeros(self.rows)
            sums[i:] = own[: self.rows - i]
            for k in range(1, i):
                sums[i:] += band[i - k : self.rows - k, i - k]
            table[:, 1, i + 1] = table[:, i + 1, 1] = sums
        return table

    def _slices(self) -> Iterator[tuple[int, int]]:
        for first in range(0, self.rows, SLICE):
            yield first, min(first + SLICE, self.rows)


def average_residuals(
    diagonal: Doubles, decays: Doubles, crossings: Doubles, before: Doubles | float = 0.0
) -> Doubles:
    """(n, Q): ||e_t||^2 of rows that follow one another.

    diagonal : (n,) ||h_t||^2; crossings : (n, Q) <h_t, e_{t-1}>; before : (Q,) ||e||^2 in the row before them
    """
    return _scan(diagonal[:, None] + 2 * decays * crossings, decays * decays, before)


def average_products(
    own: Doubles, decays: Doubles, crossings: Doubles, before: Doubles | float = 0.0
) -> Doubles:
    """(n, Q): <g_t, e_t>. own : (n,) <g_t, h_t>; before : (Q,) <g, e> in the row before, 0 at the start"""
    return _scan(own[:, None] + decays * crossings, decays, before)


def pair_residuals(
    diagonal: Doubles,
    first: Doubles,
    second: Doubles,
    first_crossings: Doubles,
    second_crossings: Doubles,
    before: Doubles | float = 0.0,
) -> Doubles:
    """(n, Q): <e_t, e'_t> of Q pairs of decays. Otherwise as `average_residuals`."""
    new = diagonal[:, None] + first * first_crossings + second * second_crossings
    return _scan(new, first * second, before)


def _suffix_sums(table: Doubles) -> Doubles:
    """[i, j] = sum over k >= j of table[i, k]."""
    return np.asarray(np.cumsum(table[:, ::-1], axis=1)[:, ::-1])


def _by_lag(table: Doubles, first: int, width: int) -> Doubles:
    """(rows, width): [i, width - k] = table[i, first + i - k] for k = 1 .. width, 0 left of the table."""
    rows, columns = table.shape
    padded = np.zeros((rows, width + columns))
    padded[:, width:] = table
    stride = padded.strides[1]
    start = padded[0, first:]
    return as_strided(start, (rows, width), (padded.strides[0] + stride, stride), writeable=False)


def _scan(new: Doubles, keep: Doubles, before: Doubles | float) -> Doubles:
    """x_t = keep x_{t-1} + new_t along the first axis, for each column its own `keep` in [0, 1].

    before : x in the row before the first
    """
    state = np.array(new)
    state[:1] += keep * before
    power = np.array(keep)
    shift = 1
    while shift < state.shape[0]:
        state[shift:] += power * state[:-shift]
        power = power * power
        shift *= 2
    return state
