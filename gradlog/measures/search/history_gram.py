"""Residuals of any history-based predictor, from inner products of a scope's first gradient and increments.

With h_0 = g_0 and h_t = g_t - g_{t-1}, the Gram matrix C[s, t] = <h_s, h_t> holds all that a linear predictor
of the past can be judged by. What is wanted is expressed in increments, so that predictors whose weights add
up to 1 never come out as a difference of large numbers:

for an exponential average of decay B, e_t = g_t - s_t follows e_t = h_t + B e_{t-1}, e_0 = g_0. Means and
weights on lags need products of rows nearby alone: see `history_lags`.

Plain NumPy over slices of rows: memory is that of as large a matrix again, and of a few (SLICE, N) arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ...quick_dataclass import dataclass
from .history_lags import HistoryLags

Doubles = NDArray[np.float64]

SLICE = 256
"""Rows handled together."""


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

    def __init__(self, gram: Doubles, steps: StepProducts) -> None:
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
        return self.faded(fading(decays, self.rows))

    def faded(self, powers: Doubles) -> Doubles:
        """(N, Q): `crossings`, from the `fading` (N, Q) of the decays."""
        found = np.zeros(powers.shape)
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

    def lags(self, width: int) -> HistoryLags:
        """Products of rows less than `width` apart."""
        band = np.zeros((max(1, width), self.rows))
        band[0] = self.diagonal
        for (first, last), lower in zip(self._slices(), self._lower, strict=True):
            lags = min(width - 1, last)
            band[1 : lags + 1, first:last] = lower[:, last - lags :][:, ::-1].T
        return HistoryLags(band, self.energy, self.drift)

    def _slices(self) -> Iterator[tuple[int, int]]:
        for first in range(0, self.rows, SLICE):
            yield first, min(first + SLICE, self.rows)


def fading(decays: Doubles, rows: int) -> Doubles:
    """(..., N, Q): B^(N - 1), ..., B, 1 down the rows, for decays (..., Q)."""
    powers = np.ones((*decays.shape[:-1], rows, decays.shape[-1]))
    powers[..., 1:, :] = decays[..., None, :]
    return np.ascontiguousarray(np.cumprod(powers, axis=-2)[..., ::-1, :])


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
