"""Candidates of the search for predictors: each family's best in hindsight, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...quick_dataclass import dataclass
from ...results.kappa import predictor_result
from ...results.reasons import ALL_ZERO
from ...results.search_result import FAMILIES, FoundPredictor, ScopeSearch
from .held_out import block_rows, enough_rows, held_out_column, ratio_intervals

Doubles = NDArray[np.float64]

CONFIDENCE = 0.95
"""Of the intervals of a scope's families, all together."""
NO_PARAMETERS = "no parameters"
"""Why nothing is found for such a tensor."""
ROUNDING = 1e-12
"""A mixture that leaves less by no more than this share is not better."""


@dataclass(frozen=True)
class Candidate:
    """A family's best in hindsight, over n rows or bins of rows.

    residuals, held_out : (n,); product : sum of <g_t, g_t - m_t>; memory : rows or bins that it looks back on
    """

    family: str
    predictor: str
    residuals: Doubles
    product: float
    held_out: Doubles
    memory: float


def nothing_to_search(energy: Doubles) -> str:
    """Why there is nothing to search, "" where there is. energy : (n,), ||g_t||^2"""
    if energy.size < 2:
        return "one row: nothing comes before it"
    return "" if energy.sum() > 0.0 else ALL_ZERO


def scope_search(
    name: str | None, candidates: Sequence[Candidate], energy: Doubles, *, keep_steps: bool = False
) -> ScopeSearch:
    """What was found, with its figures and intervals. keep_steps : keep the residuals of candidates too"""
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


def held_out(table: Doubles, hindsight: Doubles) -> Doubles:
    """(n,) `held_out_column`, or the residuals in hindsight where there are too few rows."""
    return held_out_column(table) if enough_rows(table.shape[0]) else hindsight


def best_share(one: Doubles, joint: Doubles, other: Doubles) -> Doubles:
    """SHARE in [0, 1] with the least ||SHARE e + (1 - SHARE) e'||^2, from ||e||^2, <e, e'>, ||e'||^2."""
    apart = one + other - 2 * joint
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(apart > 0, (other - joint) / apart, 1.0)
    return np.clip(share, 0.0, 1.0)


def mixed(share: Doubles | float, one: Doubles, joint: Doubles, other: Doubles) -> Doubles:
    """||SHARE e + (1 - SHARE) e'||^2, otherwise as `best_share`."""
    return np.asarray(share * share * one + 2 * share * (1 - share) * joint + (1 - share) ** 2 * other)


def mixture_candidate(
    decays: tuple[float, float],
    share: float,
    own: tuple[Doubles, Doubles, Doubles],
    products: Doubles,
    average: Candidate,
    tried: tuple[Doubles, Doubles, Doubles, Doubles],
    memory: float,
) -> Candidate | None:
    """The mixture of two averages, None where `average` alone is as good.

    share : of the first, taken to three places; own : (n,) each, the pair's as of `best_share`
    products : (2,), sums of <g_t, g_t - m_t> of both; tried : what `held_out_mixture` chooses among
    """
    share = round(share, 3)
    hindsight = mixed(share, *own)
    if not 0.0 < share < 1.0 or hindsight.sum() >= (1 - ROUNDING) * average.residuals.sum():
        return None
    product = float(share * products[0] + (1 - share) * products[1])
    left_out = held_out_mixture(*tried) if enough_rows(hindsight.size) else hindsight
    spec = f"mixture:{decays[0]},{decays[1]},{share}"
    return Candidate("mixture", spec, hindsight, product, left_out, memory)


def held_out_mixture(sums: Doubles, one: Doubles, joint: Doubles, other: Doubles) -> Doubles:
    """(n,) residuals, each block's of the pair and share that leave least of the other blocks.

    sums : (3, BLOCKS, Q), `block_sums` of the other three; those : (n, Q) of Q pairs, as of `best_share`
    """
    found = np.empty(one.shape[0])
    whole = sums.sum(axis=1)
    for block, rows in enumerate(block_rows(one.shape[0])):
        others = whole - sums[:, block]
        share = best_share(*others)
        pick = int(mixed(share, *others).argmin())
        found[rows] = mixed(share[pick], one[rows, pick], joint[rows, pick], other[rows, pick])
    return found
