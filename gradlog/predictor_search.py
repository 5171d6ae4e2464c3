"""The best predictors in hindsight, by family, with what they leave of rows that they were not chosen on.

ema : exponential averages of decay 0, 0.001, ..., 0.999
mean : means of the last 1, 2, ... gradients
mixture : SHARE s + (1 - SHARE) s' of two averages, as AdEMAMix moves along (Pagliardini et al., arXiv
    2409.03137); left out where one average alone is as good
lags : weights on the last p gradients, by least squares on lagged inner products; p is the smallest whose
    residual on held-out blocks is within 0.1 percent of the least, so that noise adds no lags

Path lengths of candidates come from `HistoryGram`, or from averages of a grid of decays that the pass
followed. docs/guarantees.md has the procedure in words.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .candidates import (
    Candidate,
    best_share,
    held_out,
    mixed,
    mixture_candidate,
    nothing_to_search,
    scope_search,
)
from .held_out import block_sums
from .history_gram import HistoryGram, StepProducts
from .history_lags import LONGEST_MEAN, MOST_LAGS
from .lag_search import best_lags
from .search_result import ScopeSearch

Doubles = NDArray[np.float64]

DECAYS = np.unique(np.append(0.0, np.round(1.0 - np.logspace(0, -3, 28)[1:], 3)))
"""From here local minima are searched to RESOLUTION."""
MIXED = DECAYS[::2]
"""Pairs of these, and of the best average with each, are where mixtures are searched from."""
RESOLUTION = 0.001
MANY_ROWS = 1024
"""From here on mixtures are searched from every second of MIXED, to bound memory."""


def search_gram(
    name: str | None, gram: NDArray[np.floating], steps: StepProducts, *, keep_steps: bool = False
) -> ScopeSearch:
    """Search all families for one scope.

    gram : (N, N), inner products of [g_0, h_1, ..., h_{N-1}] over the scope's parameters
    keep_steps : keep the per-step residuals of what is found
    """
    why = nothing_to_search(steps.energy)
    if why:
        return ScopeSearch(name, (), why)
    table = HistoryGram(np.asarray(gram, dtype=np.float64), steps)
    crossings = table.crossings(DECAYS)
    coarse = table.average_residuals(DECAYS, crossings)
    average = _best_average(table, coarse)
    candidates = [average, _best_mean(table)]
    mixture = _best_mixture(table, crossings, coarse, average)
    if mixture is not None:
        candidates.append(mixture)
    most = min(MOST_LAGS, table.rows // 16)
    lags = best_lags(table.lags(most).lag_products(most))
    if lags is not None:
        candidates.append(lags)
    return scope_search(name, candidates, steps.energy, keep_steps=keep_steps)


def _best_average(table: HistoryGram, coarse: Doubles) -> Candidate:
    """coarse : (N, Q) residuals of DECAYS"""

    def path_lengths(decays: Doubles) -> Doubles:
        return np.asarray(table.average_residuals(decays, table.crossings(decays)).sum(axis=0))

    decay = _refined(DECAYS, coarse.sum(axis=0), path_lengths)
    only = np.array([decay])
    crossing = table.crossings(only)
    residuals = table.average_residuals(only, crossing)[:, 0]
    product = float(table.average_products(only, crossing).sum())
    left_out = held_out(coarse, residuals)
    return Candidate("ema", f"ema:{decay}", residuals, product, left_out, 2 / (1 - decay))


def _refined(coarse: Doubles, values: Doubles, function: Callable[[Doubles], Doubles]) -> float:
    """Where `function` is least: from every local minimum of its `values` at `coarse`, to RESOLUTION."""
    padded = np.concatenate([[np.inf], values, [np.inf]])
    places = np.flatnonzero((padded[1:-1] <= padded[:-2]) & (padded[1:-1] <= padded[2:]))
    best, least = float(coarse[values.argmin()]), float(values.min())
    for place in places.tolist():
        low, high = float(coarse[max(place - 1, 0)]), float(coarse[min(place + 1, coarse.size - 1)])
        while True:
            tried = np.unique(np.round(np.linspace(low, high, 9), 3))
            found = function(tried)
            at = int(found.argmin())
            if found[at] < least:
                best, least = float(tried[at]), float(found[at])
            if high - low <= 8.5 * RESOLUTION:
                break
            low, high = float(tried[max(at - 1, 0)]), float(tried[min(at + 1, tried.size - 1)])
    return best


def _best_mean(table: HistoryGram) -> Candidate:
    longest = max(1, min(table.rows - 1, LONGEST_MEAN))
    near = table.lags(longest)
    residuals, apart_by = near.mean_residuals(longest)
    length = int(residuals.sum(axis=0).argmin()) + 1
    hindsight = residuals[:, length - 1].copy()
    product = float(near.mean_products(apart_by)[:, length - 1].sum())
    return Candidate("mean", f"mean:{length}", hindsight, product, held_out(residuals, hindsight), length)


def _best_mixture(
    table: HistoryGram, crossings: Doubles, coarse: Doubles, average: Candidate
) -> Candidate | None:
    """crossings, coarse : (N, Q) of DECAYS, the latter their residuals"""
    places = np.flatnonzero(np.isin(DECAYS, MIXED))
    if table.rows > MANY_ROWS:
        places = places[::2]
    pairs = np.array(list(itertools.combinations(places, 2)))
    one, other = coarse[:, pairs[:, 0]], coarse[:, pairs[:, 1]]
    joint = table.pair_residuals(
        DECAYS[pairs[:, 0]], DECAYS[pairs[:, 1]], crossings[:, pairs[:, 0]], crossings[:, pairs[:, 1]]
    )
    sums = np.stack([block_sums(part) for part in (one, joint, other)])  # (3, BLOCKS, pairs)
    whole = sums.sum(axis=1)
    share = best_share(*whole)
    at = int(mixed(share, *whole).argmin())
    decays = [float(DECAYS[pairs[at, 0]]), float(DECAYS[pairs[at, 1]])]
    for turn in (0, 1, 0, 1):
        decays[turn] = _refined_partner(table, decays[1 - turn], decays[turn])
    decays.sort()
    both, crossing = np.array(decays), table.crossings(np.array(decays))
    own = table.average_residuals(both, crossing)
    cross = table.pair_residuals(both[:1], both[1:], crossing[:, :1], crossing[:, 1:])[:, 0]
    return mixture_candidate(
        (decays[0], decays[1]),
        float(best_share(own[:, 0].sum(), cross.sum(), own[:, 1].sum())),
        (own[:, 0], cross, own[:, 1]),
        table.average_products(both, crossing).sum(axis=0),
        average,
        (sums, one, joint, other),
        2 / (1 - decays[1]),
    )


def _refined_partner(table: HistoryGram, fixed: float, start: float) -> float:
    """The decay that mixes best with `fixed`, searched between the neighbours of `start`."""

    def path_lengths(decays: Doubles) -> Doubles:
        held = np.full(decays.size, fixed)
        crossings, crossing = table.crossings(decays), table.crossings(held[:1])
        own = table.average_residuals(decays, crossings).sum(axis=0)
        other = table.average_residuals(held[:1], crossing).sum()
        joint = table.pair_residuals(held, decays, np.repeat(crossing, decays.size, axis=1), crossings)
        cross = joint.sum(axis=0)
        return mixed(best_share(own, cross, other), own, cross, other)

    place = int(np.searchsorted(MIXED, start))
    near = MIXED[max(place - 1, 0) : place + 2]
    near = np.unique(np.append(near, start))
    return _refined(near, path_lengths(near), path_lengths)
