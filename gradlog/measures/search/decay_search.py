"""Decays that leave least, to a thousandth: for several scopes of equally many rows at once.

A search takes some twenty small steps one after another, which cost no more for many scopes than for one.
Path lengths are sums over rows of what `history_gram` has step by step: with e_t = h_t + B e_{t-1},

    sum_t ||e_t||^2 = sum_t w_t (||h_t||^2 + 2 B <h_t, e_{t-1}>),   w_t = 1 + B^2 + ... + B^(2 (N - 1 - t))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .candidates import best_share, mixed
from .history_gram import HistoryGram, fading

Doubles = NDArray[np.float64]

RESOLUTION = 0.001
_TRIED = 9
"""Decays between two others that are tried at once."""


class ManyGrams:
    """The Gram matrices of S scopes over the same N rows."""

    def __init__(self, tables: Sequence[HistoryGram]) -> None:
        self._tables = tables
        self._diagonal = np.stack([table.diagonal for table in tables])

    def path_lengths(self, decays: Doubles) -> Doubles:
        """(S, Q): sum_t ||e_t||^2 of each scope's own decays (S, Q)."""
        return self._sums(decays * decays, 2 * decays[:, None] * self._crossings(decays))

    def partners(self, fixed: Doubles) -> Callable[[Doubles], Doubles]:
        """From decays (S, Q) to path lengths (S, Q) of their best mixtures with each scope's `fixed` (S,)."""
        held = fixed[:, None]
        moved = held[:, None] * self._crossings(held)
        other = self._sums(held * held, 2 * moved)

        def path_lengths(decays: Doubles) -> Doubles:
            own_moved = decays[:, None] * self._crossings(decays)
            own = self._sums(decays * decays, 2 * own_moved)
            joint = self._sums(held * decays, moved + own_moved)
            return mixed(best_share(own, joint, other), own, joint, other)

        return path_lengths

    def _crossings(self, decays: Doubles) -> Doubles:
        """(S, N, Q): <h_t, e_{t-1}>."""
        powers = fading(decays, self._diagonal.shape[1])
        return np.stack([table.faded(part) for table, part in zip(self._tables, powers, strict=True)])

    def _sums(self, keep: Doubles, moved: Doubles) -> Doubles:
        """(S, Q): sum of x_t = keep x_{t-1} + ||h_t||^2 + moved_t. keep : (S, Q); moved : (S, N, Q)"""
        weights = fading(keep, moved.shape[1])[:, ::-1].cumsum(axis=1)[:, ::-1]
        return np.asarray((weights * (self._diagonal[:, :, None] + moved)).sum(axis=1))


def refined(coarse: Doubles, values: Doubles, function: Callable[[Doubles], Doubles]) -> Doubles:
    """(S,) decays where `function` is least: from every local minimum of `values` at `coarse`, to RESOLUTION.

    coarse : (S, q) ascending, the last repeated where a scope has fewer; values : (S, q), infinite there
    function : from decays (S, Q) of each scope to values (S, Q)
    """
    scopes = np.arange(len(coarse))
    first = values.argmin(axis=1)
    best: Doubles = coarse[scopes, first]
    least = values[scopes, first]
    padded = np.pad(values, ((0, 0), (1, 1)), constant_values=np.inf)
    lowest = (values <= padded[:, :-2]) & (values <= padded[:, 2:]) & np.isfinite(values)
    owner, place = np.nonzero(lowest)
    # The minima of one scope are looked at side by side.
    lane = np.concatenate([np.arange(count) for count in lowest.sum(axis=1)])
    low = coarse[owner, np.maximum(place - 1, 0)]
    high = coarse[owner, np.minimum(place + 1, coarse.shape[1] - 1)]
    found, left = low.copy(), np.full(owner.size, np.inf)
    open_ones = np.arange(owner.size)
    while open_ones.size:
        at, beside = owner[open_ones], lane[open_ones]
        tried = np.round(np.linspace(low[open_ones], high[open_ones], _TRIED, axis=1), 3)
        table = np.zeros((scopes.size, int(beside.max()) + 1, _TRIED))
        table[at, beside] = tried
        values_there = function(table.reshape(scopes.size, -1)).reshape(table.shape)[at, beside]
        pick = values_there.argmin(axis=1)
        rows = np.arange(open_ones.size)
        chosen, reached = tried[rows, pick], values_there[rows, pick]
        better = reached < left[open_ones]
        found[open_ones[better]], left[open_ones[better]] = chosen[better], reached[better]
        wide = high[open_ones] - low[open_ones] > 8.5 * RESOLUTION
        below = np.where(tried < chosen[:, None], tried, -np.inf).max(axis=1)
        above = np.where(tried > chosen[:, None], tried, np.inf).min(axis=1)
        low[open_ones] = np.maximum(below, tried[:, 0])
        high[open_ones] = np.minimum(above, tried[:, -1])
        open_ones = open_ones[wide]
    for scope, decay, value in zip(owner, found, left, strict=True):
        if value < least[scope]:
            best[scope], least[scope] = decay, value
    return best


def refined_pairs(many: ManyGrams, pairs: Doubles, grid: Doubles) -> Doubles:
    """(S, 2), ascending: pairs (S, 2) of decays of `grid`, each refined in turn between its neighbours."""
    pairs = pairs.copy()
    for turn in (0, 1, 0, 1):
        path_lengths = many.partners(pairs[:, 1 - turn])
        near = [_neighbours(grid, float(decay)) for decay in pairs[:, turn]]
        longest = max(values.size for values in near)
        coarse = np.stack([np.pad(values, (0, longest - values.size), "edge") for values in near])
        repeated = np.arange(longest) >= np.array([values.size for values in near])[:, None]
        pairs[:, turn] = refined(coarse, np.where(repeated, np.inf, path_lengths(coarse)), path_lengths)
    return np.asarray(np.sort(pairs, axis=1))


def _neighbours(grid: Doubles, decay: float) -> Doubles:
    place = int(np.searchsorted(grid, decay))
    return np.unique(np.append(grid[max(place - 1, 0) : place + 2], decay))
