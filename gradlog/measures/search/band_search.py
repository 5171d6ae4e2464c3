"""The search where no Gram matrix over rows is formed: from its band, and averages of a grid of decays.

The families of `predictor_search`, with decays from the grid, means up to the band's width, and sums over
bins of rows in the place of rows: choices are held out by blocks of bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...results.search_result import FoundPredictor, ScopeSearch
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
from .history_band import STEPS, BandLayout, HistoryTables, row_tables
from .lag_search import best_lags, combination_of, quadratics

Doubles = NDArray[np.float64]


def search_band(name: str | None, layout: BandLayout, sums: HistoryTables) -> ScopeSearch:
    """Search all families that the band allows for one scope."""
    why = nothing_to_search(sums.energy)
    if why:
        return ScopeSearch(name, (), why)
    scale = (sums.energy.size - 1) / max(1, layout.rows - 1)  # bins of a row
    average = _best_average(layout, sums, scale)
    candidates = [average]
    if layout.longest_mean:
        candidates.append(_best_mean(sums, scale))
    mixture = _best_mixture(layout, sums, average, scale)
    if mixture is not None:
        candidates.append(mixture)
    lags = best_lags(sums.lags)
    if lags is not None:
        candidates.append(lags)
    return scope_search(name, candidates, sums.energy)


def _best_average(layout: BandLayout, sums: HistoryTables, scale: float) -> Candidate:
    at = int(sums.averages.sum(axis=0).argmin())
    decay, residuals = layout.decays[at], sums.averages[:, at]
    left_out = held_out(sums.averages, residuals)
    product = float(sums.average_products[0, at])
    return Candidate("ema", f"ema:{decay}", residuals, product, left_out, 2 * scale / (1 - decay))


def _best_mean(sums: HistoryTables, scale: float) -> Candidate:
    at = int(sums.means.sum(axis=0).argmin())
    residuals = sums.means[:, at]
    product = float(sums.mean_products[0, at])
    left_out = held_out(sums.means, residuals)
    return Candidate("mean", f"mean:{at + 1}", residuals, product, left_out, scale * (at + 1))


def _best_mixture(
    layout: BandLayout, sums: HistoryTables, average: Candidate, scale: float
) -> Candidate | None:
    first, second = layout.pairs.T
    one, other, joint = sums.averages[:, first], sums.averages[:, second], sums.joint
    blocks = np.stack([block_sums(part) for part in (one, joint, other)])
    whole = blocks.sum(axis=1)
    at = int(mixed(best_share(*whole), *whole).argmin())
    decays = float(layout.decays[first[at]]), float(layout.decays[second[at]])
    return mixture_candidate(
        decays,
        float(best_share(*whole[:, at])),
        (one[:, at], joint[:, at], other[:, at]),
        sums.average_products[0, [first[at], second[at]]],
        average,
        (blocks, one, joint, other),
        2 * scale / (1 - decays[1]),
    )


def steps_of(layout: BandLayout, rows: Doubles, found: ScopeSearch) -> dict[str, Doubles]:
    """(N,) ||g_t - m_t||^2 of each found predictor. rows : (N, STEPS + columns) of the scope"""
    steps = {item.predictor: np.empty(rows.shape[0]) for item in found.found}
    used = {
        decay for item in found.found if item.family in ("ema", "mixture") for decay in _numbers(item)[:2]
    }
    layout, kept = layout.only(used)
    for tables in row_tables(layout, rows, [*range(STEPS), *(STEPS + kept)]):
        inside = slice(tables.start, tables.start + tables.energy.size)
        for item in found.found:
            steps[item.predictor][inside] = _residuals(layout, tables, item)
    return steps


def _numbers(item: FoundPredictor) -> list[float]:
    return [float(word) for word in item.predictor.partition(":")[2].split(",")]


def _residuals(layout: BandLayout, tables: HistoryTables, item: FoundPredictor) -> Doubles:
    numbers = _numbers(item)
    match item.family:
        case "ema":
            return tables.averages[:, layout.decays.index(numbers[0])]
        case "mean":
            return tables.means[:, int(numbers[0]) - 1]
        case "mixture":
            first, second = (layout.decays.index(decay) for decay in numbers[:2])
            (pair,) = np.flatnonzero((layout.pairs == (first, second)).all(axis=1))
            one, other = tables.averages[:, first], tables.averages[:, second]
            return mixed(numbers[2], one, tables.joint[:, pair], other)
        case _:
            return quadratics(tables.lags, combination_of(np.array(numbers)))
