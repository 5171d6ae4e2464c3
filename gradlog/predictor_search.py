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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .held_out import block_rows, block_sums, enough_rows, held_out_column, ratio_intervals
from .history_gram import MOST_LAGS, HistoryGram, StepProducts
from .reasons import ALL_ZERO
from .search_result import FAMILIES, FoundPredictor, ScopeSearch

Doubles = NDArray[np.float64]

CONFIDENCE = 0.95
"""Of the intervals of a scope's families, all together."""
DECAYS = np.unique(np.append(0.0, np.round(1.0 - np.logspace(0, -3, 28)[1:], 3)))
"""From here local minima are searched to RESOLUTION."""
MIXED = DECAYS[::2]
"""Pairs of these, and of the best average with each, are where mixtures are searched from."""
RESOLUTION = 0.001
MANY_ROWS = 1024
"""From here on mixtures are searched from every second of MIXED, to bound memory."""


@dataclass(frozen=True)
class _Candidate:
    """A family's best in hindsight. residuals, held_out : (n,); product : sum of <g_t, g_t - m_t>

    memory : rows that it looks back on
    """

    family: str
    predictor: str
    residuals: Doubles
    product: float
    held_out: Doubles
    memory: float


def search_gram(
    name: str | None, gram: NDArray[np.floating], steps: StepProducts, *, keep_steps: bool = False
) -> ScopeSearch:
    """Search all families for one scope.

    gram : (N, N), inner products of [g_0, h_1, ..., h_{N-1}] over the scope's parameters
    keep_steps : keep the per-step residuals of what is found
    """
    why = _nothing_to_search(steps.energy)
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
    lags = _best_lags(table)
    if lags is not None:
        candidates.append(lags)
    return _result(name, candidates, steps.energy, keep_steps)


def search_grid(
    name: str | None,
    energy: Doubles,
    residuals: Mapping[float, Doubles],
    products: Mapping[float, Doubles],
    *,
    keep_steps: bool = False,
) -> ScopeSearch:
    """Search averages of the decays that the pass followed.

    energy : (n,), ||g_t||^2, of rows or summed over bins of rows; residuals, products : for each decay
    (n,), ||g_t - s_t||^2 and <g_t, s_t> likewise
    """
    why = _nothing_to_search(energy)
    if why:
        return ScopeSearch(name, (), why)
    decays = sorted(residuals)
    table = np.stack([residuals[decay] for decay in decays], axis=1)
    best = int(table.sum(axis=0).argmin())
    product = float((energy - products[decays[best]]).sum())
    hindsight = table[:, best]
    candidate = _Candidate(
        "ema", f"ema:{decays[best]}", hindsight, product, _held_out(table, hindsight), 2 / (1 - decays[best])
    )
    return _result(name, [candidate], energy, keep_steps)


def _nothing_to_search(energy: Doubles) -> str:
    if energy.size < 2:
        return "one row: nothing comes before it"
    if not energy.sum() > 0.0:
        return ALL_ZERO
    return ""


def _result(
    name: str | None, candidates: Sequence[_Candidate], energy: Doubles, keep_steps: bool
) -> ScopeSearch:
    from .path_length import predictor_result

    total = float(energy.sum())
    intervals: list[tuple[float, float] | None] = [None] * len(candidates)
    known = enough_rows(energy.size)
    if known:
        table = np.stack([candidate.held_out for candidate in candidates], axis=1)
        confidence = 1 - (1 - CONFIDENCE) / len(FAMILIES)
        intervals = ratio_intervals(table, energy, [c.memory for c in candidates], confidence)
    found = []
    for candidate, interval in zip(candidates, intervals, strict=True):
        residual = float(candidate.residuals.sum())
        # <g, m> and ||m||^2 from <g, g - m>
        inner, square = total - candidate.product, total - 2 * candidate.product + residual
        figures = predictor_result(candidate.predictor, total, residual, inner, max(square, 0.0))
        low, high = interval or (None, None)
        found.append(
            FoundPredictor(
                family=candidate.family,
                predictor=candidate.predictor,
                path_length=residual,
                kappa=residual / total,
                scaled_kappa=min(residual / total, figures.scaled_kappa or 0.0),
                scale=figures.scale,
                held_out=float(candidate.held_out.sum()) / total if known else None,
                lower=low,
                upper=high,
            )
        )
    steps = {candidate.predictor: candidate.residuals for candidate in candidates} if keep_steps else {}
    return ScopeSearch(name, tuple(found), "", steps)


def _held_out(table: Doubles, hindsight: Doubles) -> Doubles:
    return held_out_column(table) if enough_rows(table.shape[0]) else hindsight


def _best_average(table: HistoryGram, coarse: Doubles) -> _Candidate:
    """coarse : (N, Q) residuals of DECAYS"""

    def path_lengths(decays: Doubles) -> Doubles:
        return np.asarray(table.average_residuals(decays, table.crossings(decays)).sum(axis=0))

    decay = _refined(DECAYS, coarse.sum(axis=0), path_lengths)
    only = np.array([decay])
    crossing = table.crossings(only)
    residuals = table.average_residuals(only, crossing)[:, 0]
    product = float(table.average_products(only, crossing).sum())
    held_out = _held_out(coarse, residuals)
    return _Candidate("ema", f"ema:{decay}", residuals, product, held_out, 2 / (1 - decay))


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


def _best_mean(table: HistoryGram) -> _Candidate:
    residuals = table.mean_residuals()
    length = int(residuals.sum(axis=0).argmin()) + 1
    hindsight = residuals[:, length - 1].copy()
    product = float(table.mean_products(length).sum())
    return _Candidate("mean", f"mean:{length}", hindsight, product, _held_out(residuals, hindsight), length)


def _best_mixture(
    table: HistoryGram, crossings: Doubles, coarse: Doubles, average: _Candidate
) -> _Candidate | None:
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
    share = _best_share(*whole)
    at = int(_mixed(share, *whole).argmin())
    decays = [float(DECAYS[pairs[at, 0]]), float(DECAYS[pairs[at, 1]])]
    for turn in (0, 1, 0, 1):
        decays[turn] = _refined_partner(table, decays[1 - turn], decays[turn])
    decays.sort()
    both, crossing = np.array(decays), table.crossings(np.array(decays))
    own = table.average_residuals(both, crossing)
    cross = table.pair_residuals(both[:1], both[1:], crossing[:, :1], crossing[:, 1:])[:, 0]
    weight = round(float(_best_share(own[:, 0].sum(), cross.sum(), own[:, 1].sum())), 3)
    hindsight = _mixed(weight, own[:, 0], cross, own[:, 1])
    if not 0.0 < weight < 1.0 or hindsight.sum() >= average.residuals.sum():
        return None
    products = table.average_products(both, crossing).sum(axis=0)
    product = float(weight * products[0] + (1 - weight) * products[1])
    held_out = hindsight
    if enough_rows(table.rows):
        held_out = np.empty(table.rows)
        for block, rows in enumerate(block_rows(table.rows)):
            others = whole - sums[:, block]
            share = _best_share(*others)
            pick = int(_mixed(share, *others).argmin())
            held_out[rows] = _mixed(share[pick], one[rows, pick], joint[rows, pick], other[rows, pick])
    spec = f"mixture:{decays[0]},{decays[1]},{weight}"
    return _Candidate("mixture", spec, hindsight, product, held_out, 2 / (1 - decays[1]))


def _refined_partner(table: HistoryGram, fixed: float, start: float) -> float:
    """The decay that mixes best with `fixed`, searched between the neighbours of `start`."""

    def path_lengths(decays: Doubles) -> Doubles:
        held = np.full(decays.size, fixed)
        crossings, crossing = table.crossings(decays), table.crossings(held[:1])
        own = table.average_residuals(decays, crossings).sum(axis=0)
        other = table.average_residuals(held[:1], crossing).sum()
        joint = table.pair_residuals(held, decays, np.repeat(crossing, decays.size, axis=1), crossings)
        cross = joint.sum(axis=0)
        return _mixed(_best_share(own, cross, other), own, cross, other)

    place = int(np.searchsorted(MIXED, start))
    near = MIXED[max(place - 1, 0) : place + 2]
    near = np.unique(np.append(near, start))
    return _refined(near, path_lengths(near), path_lengths)


def _best_share(one: Doubles, joint: Doubles, other: Doubles) -> Doubles:
    """SHARE in [0, 1] with the least ||SHARE e + (1 - SHARE) e'||^2, from ||e||^2, <e, e'>, ||e'||^2."""
    apart = one + other - 2 * joint
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(apart > 0, (other - joint) / apart, 1.0)
    return np.clip(share, 0.0, 1.0)


def _mixed(share: Doubles | float, one: Doubles, joint: Doubles, other: Doubles) -> Doubles:
    return np.asarray(share * share * one + 2 * share * (1 - share) * joint + (1 - share) ** 2 * other)


def _best_lags(table: HistoryGram) -> _Candidate | None:
    most = min(MOST_LAGS, table.rows // 16)
    if most < 1:
        return None
    products = table.lag_products(most)
    sums = block_sums(products)
    whole = sums.sum(axis=0)
    choices = [[_least_squares(whole - part, p) for p in range(1, most + 1)] for part in sums]
    left = np.array(
        [[_quadratic(part, c) for c in of_block] for part, of_block in zip(sums, choices, strict=True)]
    )  # (BLOCKS, most)
    order = _smallest_good(left.sum(axis=0)) + 1
    weights = _lag_weights(_least_squares(whole, order))
    if not np.isfinite(weights).all():
        return None
    weights = np.array([float(f"{weight:.9g}") for weight in weights])
    combination = _combination(weights)
    hindsight = _quadratics(products, combination)
    product = _inner(whole, combination)
    held_out = hindsight
    if enough_rows(table.rows):
        held_out = np.empty(table.rows)
        for block, rows in enumerate(block_rows(table.rows)):
            pick = _smallest_good(left.sum(axis=0) - left[block])
            held_out[rows] = _quadratics(products[rows], choices[block][pick])
    spec = "lags:" + ",".join(map(str, weights.tolist()))
    return _Candidate("lags", spec, hindsight, product, held_out, float(order))


def _smallest_good(left: Doubles) -> int:
    """The first place within 0.1 percent of the least."""
    return int(np.flatnonzero(left <= left.min() * 1.001)[0])


def _least_squares(products: Doubles, order: int) -> Doubles:
    """(order + 1,): 1 and minus the coefficients of g_{t-1}, h_{t-1}, ... that leave least of h_t."""
    inside, target = products[1 : order + 1, 1 : order + 1], products[1 : order + 1, 0]
    scale = np.sqrt(np.maximum(inside.diagonal(), 0.0))
    scale = np.where(scale > 0, scale, 1.0)
    solved = np.linalg.lstsq(inside / scale / scale[:, None], target / scale, rcond=1e-12)[0] / scale
    return np.append(1.0, -solved)


def _lag_weights(combination: Doubles) -> Doubles:
    """(p,) weights of g_{t-1}, ..., g_{t-p} from the coefficients of `_least_squares`."""
    tail = np.append(-combination[2:], 0.0)
    weights = np.append(1.0 - combination[1] + tail[0], np.diff(tail))
    return np.asarray(weights)


def _combination(weights: Doubles) -> Doubles:
    """The inverse of `_lag_weights`."""
    return np.append([1.0, 1.0 - weights.sum()], np.cumsum(weights[:0:-1])[::-1])


def _quadratic(products: Doubles, combination: Doubles) -> float:
    size = combination.size
    return max(0.0, float(combination @ products[:size, :size] @ combination))


def _quadratics(products: Doubles, combination: Doubles) -> Doubles:
    """(n,): ||e_t||^2 at each step."""
    size = combination.size
    return np.asarray(
        np.maximum(np.einsum("tij,i,j->t", products[:, :size, :size], combination, combination), 0.0)
    )


def _inner(products: Doubles, combination: Doubles) -> float:
    """Sum of <g_t, e_t>: g_t = h_t + g_{t-1}."""
    size = combination.size
    return float((products[0, :size] + products[1, :size]) @ combination)
