"""The least path length of any rank-r increment predictor, and the rank at which it meets simple predictors.

A predictor m_t = g_{t-1} + d_t whose corrections d_1 .. d_{N-1} span r directions leaves at least
||g_0||^2 + sum_{i>r} sigma_i^2 (Eckart and Young; the paper, section on predictable rank), which the
leading r directions of the increments attain in hindsight. It is a limit of what following r directions can
reach, not what a predictor of the past does reach. Units: squared gradient.

Where the spectrum is not exact, what is certain of r*(eps) bounds the residual: it is above eps E_H for
r < lower(eps), and at most eps E_H for r >= upper(eps).
"""

from __future__ import annotations

import math

import numpy as np

from ..results.reasons import NO_SERIES
from ..results.result import Analysis, SpectrumResult
from .guarantee import Guarantee, MeetingRank, ResidualCurve, logged_rows, no_best
from .regret import beyond_standing_still


def residual_curve(spectrum: SpectrumResult | None) -> ResidualCurve | None:
    """sum_{i>r} sigma_i^2 over r = 0, 1, ...; at the bounds of r* where the spectrum is not exact."""
    if spectrum is None:
        return None
    if spectrum.method == "exact" and (spectrum.singular_values.size or spectrum.energy == 0):
        squares = spectrum.singular_values**2
        left = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
        return ResidualCurve(np.arange(left.size), left, left)
    ends = {0, *(r.lower for r in spectrum.rank), *(r.upper for r in spectrum.rank)}
    ends |= {r.lower - 1 for r in spectrum.rank if r.lower}
    ranks = np.array(sorted(ends), dtype=np.int64)
    lower, upper = np.zeros(ranks.size), np.full(ranks.size, spectrum.energy)
    for r in spectrum.rank:
        share = r.epsilon * spectrum.energy
        lower[ranks < r.lower] = np.maximum(lower[ranks < r.lower], share)
        upper[ranks >= r.upper] = np.minimum(upper[ranks >= r.upper], share)
    lower[0] = spectrum.energy
    return ResidualCurve(ranks, lower, upper)


def meeting_ranks(analysis: Analysis, curve: ResidualCurve | None) -> tuple[MeetingRank, ...]:
    """For each listed predictor the rank from which on rank-r increments could leave no more than it."""
    if curve is None or not analysis.steps.grad_norm.size or analysis.total.best is None:
        return ()
    first = float(analysis.steps.grad_norm[0]) ** 2
    found = []
    for item in analysis.total.predictors:
        target = (item.path_length - first) * (1 + 1e-9)
        sure = np.flatnonzero(curve.upper <= target)
        possible = np.flatnonzero(curve.lower <= target)
        lower = int(curve.rank[possible[0]]) if possible.size else int(curve.rank[-1])
        found.append(MeetingRank(item.predictor, lower, int(curve.rank[sure[0]]) if sure.size else None))
    return tuple(found)


def rank_row(analysis: Analysis, radius: float) -> Guarantee:
    """The regret bound that the best rank-r increments would have, r = r* of the middle epsilon."""
    assumptions = (
        "the best r directions of the increments, known in hindsight: no predictor of the past has them",
        logged_rows(analysis),
    )
    spectrum, steps = analysis.total.spectrum, analysis.steps
    middle = None if spectrum is None else spectrum.middle_rank
    why = ""
    if spectrum is None:
        why = "no spectrum: --rank none"
    elif middle is None:
        why = "no epsilon was asked for"
    elif not steps.grad_norm.size:
        why = NO_SERIES
    elif analysis.total.best is None:
        why = no_best(analysis)
    elif middle.rank is None:
        why = "the sketch is too small to tell the rank"
    name, formula = "regret[rank r]", "R sqrt(2 (|g_0|^2 + sum_{i>r} sigma_i^2))"
    if why or spectrum is None or middle is None:
        return Guarantee(
            name, "", formula, "R sqrt(2 E)", assumptions, None, None, why, speaks_of="hindsight"
        )
    # At the upper bound of r* at most epsilon of the energy is left, whatever the method.
    left = middle.epsilon * spectrum.energy
    if spectrum.method == "exact" and spectrum.singular_values.size:
        left = float((spectrum.singular_values[middle.upper :] ** 2).sum())
    first = float(steps.grad_norm[0]) ** 2
    value = radius * math.sqrt(2 * (first + left))
    worst = radius * math.sqrt(2 * analysis.total.energy)
    hint = f"rank {middle.upper}"
    return Guarantee(
        name, hint, formula, "R sqrt(2 E)", assumptions, value, worst, speaks_of="hindsight",
        vacuous=beyond_standing_still(analysis, radius, value),
    )  # fmt: skip
