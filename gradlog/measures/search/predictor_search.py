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
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...results.search_result import ScopeSearch
from .candidates import (
    Candidate,
    best_share,
    held_out,
    mixed,
    mixture_candidate,
    nothing_to_search,
    scope_search,
)
from .decay_search import ManyGrams, refined, refined_pairs
from .held_out import block_sums
from .history_gram import HistoryGram, StepProducts
from .history_lags import LONGEST_MEAN, MOST_LAGS
from .lag_search import best_lags

Doubles = NDArray[np.float64]

DECAYS = np.unique(np.append(0.0, np.round(1.0 - np.logspace(0, -3, 28)[1:], 3)))
"""From here local minima are searched to a thousandth: see `decay_search`."""
MIXED = DECAYS[::2]
"""Pairs of these, and of the best average with each, are where mixtures are searched from."""
MANY_ROWS = 1024
"""From here on mixtures are searched from every second of MIXED, to bound memory."""


class GramScope(NamedTuple):
    """A scope to search: gram : (N, N), inner products of [g_0, h_1, ..., h_{N-1}] over its parameters"""

    name: str | None
    gram: NDArray[np.floating[Any]]
    steps: StepProducts


def search_grams(scopes: Sequence[GramScope], *, keep_steps: bool = False) -> list[ScopeSearch]:
    """Search all families for each of some scopes of the same rows.

    keep_steps : keep the per-step residuals of what is found
    """
    nothing = [nothing_to_search(scope.steps.energy) for scope in scopes]
    searched = [
        _Averages(HistoryGram(np.asarray(scope.gram, dtype=np.float64), scope.steps))
        for scope, why in zip(scopes, nothing, strict=True)
        if not why
    ]
    if not searched:
        return [ScopeSearch(scope.name, (), why) for scope, why in zip(scopes, nothing, strict=True)]
    many = ManyGrams([averages.table for averages in searched])
    coarse = np.stack([averages.residuals.sum(axis=0) for averages in searched])
    decays = refined(np.tile(DECAYS, (len(searched), 1)), coarse, many.path_lengths)
    pairs = refined_pairs(many, np.stack([averages.best_pair for averages in searched]), MIXED)
    each = iter(zip(searched, decays.tolist(), pairs, strict=True))
    return [
        ScopeSearch(scope.name, (), why)
        if why
        else scope_search(scope.name, _candidates(*next(each)), scope.steps.energy, keep_steps=keep_steps)
        for scope, why in zip(scopes, nothing, strict=True)
    ]


def search_gram(
    name: str | None, gram: NDArray[np.floating[Any]], steps: StepProducts, *, keep_steps: bool = False
) -> ScopeSearch:
    """`search_grams` for one scope."""
    return search_grams([GramScope(name, gram, steps)], keep_steps=keep_steps)[0]


class _Averages:
    """One scope's averages of DECAYS, and mixtures of two of MIXED.

    residuals : (N, Q) of DECAYS; tried : of all pairs, what `held_out_mixture` takes
    best_pair : (2,) decays whose mixture leaves least
    """

    def __init__(self, table: HistoryGram) -> None:
        self.table = table
        crossings = table.crossings(DECAYS)
        self.residuals = table.average_residuals(DECAYS, crossings)
        places = np.flatnonzero(np.isin(DECAYS, MIXED))
        if table.rows > MANY_ROWS:
            places = places[::2]
        first, second = np.array(list(itertools.combinations(places, 2))).T
        one, other = self.residuals[:, first], self.residuals[:, second]
        joint = table.pair_residuals(DECAYS[first], DECAYS[second], crossings[:, first], crossings[:, second])
        sums = np.stack([block_sums(part) for part in (one, joint, other)])  # (3, BLOCKS, pairs)
        self.tried = (sums, one, joint, other)
        whole = sums.sum(axis=1)
        at = int(mixed(best_share(*whole), *whole).argmin())
        self.best_pair = DECAYS[[first[at], second[at]]]


def _candidates(averages: _Averages, decay: float, pair: Doubles) -> list[Candidate]:
    """decay : of the best average; pair : (2,) of the best mixture, ascending"""
    table = averages.table
    average = _average(averages, decay)
    candidates = [average, _best_mean(table)]
    mixture = _mixture(averages, pair, average)
    if mixture is not None:
        candidates.append(mixture)
    most = min(MOST_LAGS, table.rows // 16)
    lags = best_lags(table.lags(most).lag_products(most))
    if lags is not None:
        candidates.append(lags)
    return candidates


def _average(averages: _Averages, decay: float) -> Candidate:
    table, only = averages.table, np.array([decay])
    crossing = table.crossings(only)
    residuals = table.average_residuals(only, crossing)[:, 0]
    product = float(table.average_products(only, crossing).sum())
    left_out = held_out(averages.residuals, residuals)
    return Candidate("ema", f"ema:{decay}", residuals, product, left_out, 2 / (1 - decay))


def _best_mean(table: HistoryGram) -> Candidate:
    longest = max(1, min(table.rows - 1, LONGEST_MEAN))
    near = table.lags(longest)
    residuals, apart_by = near.mean_residuals(longest)
    length = int(residuals.sum(axis=0).argmin()) + 1
    hindsight = residuals[:, length - 1].copy()
    product = float(near.mean_product(length, apart_by[:, length - 1]).sum())
    return Candidate("mean", f"mean:{length}", hindsight, product, held_out(residuals, hindsight), length)


def _mixture(averages: _Averages, pair: Doubles, average: Candidate) -> Candidate | None:
    table = averages.table
    crossing = table.crossings(pair)
    own = table.average_residuals(pair, crossing)
    cross = table.pair_residuals(pair[:1], pair[1:], crossing[:, :1], crossing[:, 1:])[:, 0]
    first, second = pair.tolist()
    return mixture_candidate(
        (first, second),
        float(best_share(own[:, 0].sum(), cross.sum(), own[:, 1].sum())),
        (own[:, 0], cross, own[:, 1]),
        table.average_products(pair, crossing).sum(axis=0),
        average,
        averages.tried,
        2 / (1 - second),
    )
