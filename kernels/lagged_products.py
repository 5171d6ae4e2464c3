"""Inner products of increments with those shortly before and with averages: a banded Gram matrix.

With h_0 = g_0 and h_t = g_t - g_{t-1}, e_t = h_t + B e_{t-1} is what an exponential average of decay B leaves
of g_t. Of rows a, a + 1, ... that are taken together, with the rows before carried along,

    <h_t, e_{t-1}> = B^(t-a) <h_t, e_{a-1}> + sum_{a <= j < t} B^(t-1-j) <h_t, h_j>

so that products of the rows with those before, with one another and with the e_{a-1} are all there is to
form: a few matrix products for each STRIDE rows, through BLAS. States are float64 whatever the products are.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gram import finite_doubles, row_gram

Doubles = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]

STRIDE = 64
"""Rows taken together."""


@functools.lru_cache(maxsize=8)
def _fading(decays: tuple[float, ...], count: int) -> tuple[Doubles, Doubles]:
    """(count + 1, E) B^k, and (count, count, E) B^(t-1-j) for j < t, else 0."""
    powers = np.ones((count + 1, len(decays)))
    powers[1:] = decays
    powers = powers.cumprod(axis=0)
    apart = np.arange(count)[:, None] - 1 - np.arange(count)
    return powers, np.where((apart >= 0)[:, :, None], powers[np.maximum(apart, 0)], 0.0)


class LaggedProducts:
    """What some columns carry from one block of rows to the next.

    width : lags 0 .. width - 1 are kept; decays : (E,) in [0, 1), of the averages that are followed
    """

    def __init__(self, width: int, decays: Doubles) -> None:
        self._width = width
        self._decays = decays
        self._before: Rows | None = None
        self._states: Doubles = np.zeros((0, 0))

    def take(self, increments: Rows, first: Rows | None, energies: Doubles, single: bool) -> Doubles:
        """Take in the next rows of these columns.

        Parameters
        ----------
        increments : (T, W) float32 or float64, one h_t a row; only read
        first : (1, W), g_0, where the first of the rows is row 0; None for later rows
        energies : (T,) float64, ||h_t||^2 over these columns
        single : float32 products are good enough where they pass the check of `row_gram`

        Returns
        -------
        (T, width + E) float64: [t, l] = <h_t, h_{t-l}>, then <h_t, e_{t-1}> of each decay; 0 where there is
        no such row, and in the whole row 0

        Raises OverflowError where increments are infinite.
        """
        found = np.zeros((increments.shape[0], self._width + self._decays.size))
        start = 0
        if first is not None:
            self._before = first.copy()
            self._states = np.repeat(first.astype(np.float64), self._decays.size, axis=0)
            start = 1
        for at in range(start, increments.shape[0], STRIDE):
            rows = slice(at, at + STRIDE)
            self._stride(increments[rows], energies[rows], single, found[rows])
        assert self._before is not None
        self._before = self._before.astype(increments.dtype)  # a copy: the caller's rows change
        return found

    def _stride(self, rows: Rows, energies: Doubles, single: bool, found: Doubles) -> None:
        before, states, width = self._before, self._states, self._width
        assert before is not None
        count, old = rows.shape[0], before.shape[0]
        inner = row_gram(rows, energies, True) if single else None
        if inner is not None and inner.dtype == np.float32:
            with np.errstate(over="ignore", invalid="ignore"):
                across, onto = rows @ before.astype(np.float32, copy=False).T, rows @ states.astype("f4").T
            if not (np.isfinite(across).all() and np.isfinite(onto).all()):
                inner = None
        if inner is None or inner.dtype != np.float32:
            rows = finite_doubles(rows)
            inner = rows @ rows.T
            across, onto = rows @ before.astype(np.float64, copy=False).T, rows @ states.T
        products = np.concatenate([across, inner], axis=1).astype(np.float64, copy=False)
        places = np.arange(count)[:, None] + old - np.arange(width)
        known = places >= 0
        found[:, :width] = np.where(known, np.take_along_axis(products, np.maximum(places, 0), axis=1), 0.0)
        powers, fading = _fading(tuple(self._decays.tolist()), count)
        below = products[:, old:]
        found[:, width:] = powers[:count] * onto + (below[:, None, :] @ fading)[:, 0]
        weights = powers[:count][::-1].T.astype(rows.dtype)
        states *= powers[count][:, None]
        states += weights @ rows
        if count >= width - 1:
            self._before = rows[count - (width - 1) :]
        else:
            self._before = np.concatenate([before, rows])[-(width - 1) :]
