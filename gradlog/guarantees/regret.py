"""Regret of optimistic mirror descent, with the run's own path lengths in the place of the worst case.

Online convex optimization with convex losses f_t, subgradients g_t at the points played, and hints m_t
(Rakhlin and Sridharan, "Online Learning with Predictable Sequences", COLT 2013, lemma 1):

    x_t = argmin_x <m_t, x> eta + D(x, y_{t-1}),   y_t = argmin_x <g_t, x> eta + D(x, y_{t-1})

where D is the Bregman divergence of a mirror map that is 1-strongly convex in the Euclidean norm. For every
comparator x* with D(x*, y_0) <= R^2,

    sum_t <g_t, x_t - x*> <= D(x*, y_0) / eta + eta / 2 sum_t ||g_t - m_t||^2 = R sqrt(2 P(m))

with eta = R sqrt(2 / P(m)). In the Euclidean case D is half the squared distance, so that R is the distance
to the comparator divided by the root of 2. Without hints P is sum ||g_t||^2 = E, at most N G^2 with
G = max ||g_t||. The ratio of the bounds with and without hints is sqrt(kappa). Units: radius times gradient.

Not knowing which of K predictors to follow: losses l_t(m) = ||g_t - m||^2 are 1/(2 r^2)-exp-concave where
||g_t - m|| <= r, which holds for all mixtures of the predictions when it holds for each. The forecaster with
exponential weights (rate 1/(2 r^2)) that plays their weighted mean therefore has (Cesa-Bianchi and Lugosi,
"Prediction, Learning, and Games", proposition 3.1)

    P(aggregate) <= min_k P(m^k) + 2 r^2 ln K,   r = max over t >= 1 and k of ||g_t - m_t^k||

(at t = 0 all predictions are 0). The rate takes r in hindsight, as eta takes P.

Who never moves from x_0 has a regret of at most R sqrt(2) sum ||g_t||: a bound above that says nothing.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from ..results.reasons import NO_SERIES
from ..results.result import Analysis
from ..results.search_result import FAMILIES, PredictorSearch
from .guarantee import HINDSIGHT, Guarantee, SpeaksOf, logged_rows, no_best, no_series

CONVEX = (
    "convex losses, g_t their subgradients at the points played",
    "1-strongly convex mirror map (Euclidean norm), D(x*, x_0) <= R^2",
    "step size eta = R sqrt(2 / P), known in hindsight",
)
FAMILY_WORDS = {
    "ema": "best average",
    "mean": "best mean",
    "mixture": "best mixture of two averages",
    "lags": "best least squares on lags",
}
NO_SEARCH = "no search: it takes the log of gradients itself, or analyze --search --format json"


def regret_rows(analysis: Analysis, radius: float) -> list[Guarantee]:
    """No hints, the listed predictors, each family in hindsight, and the price of not knowing which."""
    total, rows = analysis.total, analysis.run.rows
    without = radius * math.sqrt(2 * total.energy)
    norms = analysis.steps.grad_norm
    convex = (*CONVEX, logged_rows(analysis))

    def row(
        name: str, hint: str, path_length: float | None, why: str = "", speaks_of: SpeaksOf = "hindsight"
    ) -> Guarantee:
        value = None if path_length is None else radius * math.sqrt(2 * path_length)
        return Guarantee(
            f"regret[{name}]", hint, "R sqrt(2 P)", "R sqrt(2 E)",
            (*convex, HINDSIGHT) if speaks_of == "hindsight" else convex,
            value, without, why, speaks_of, vacuous=beyond_standing_still(analysis, radius, value),
        )  # fmt: skip

    found = [
        dataclasses.replace(
            row("no hints", "zero", total.energy, "" if norms.size else NO_SERIES, "logged"),
            formula="R sqrt(2 E)",
            worst_formula="R G sqrt(2 N)",
            worst=radius * float(norms.max()) * math.sqrt(2 * rows) if norms.size else None,
        )
    ]
    best = total.best
    if best is None:
        found.append(row("best listed", "", None, no_best(analysis)))
    else:
        found.append(row("best listed", best.predictor, best.path_length))
    search = analysis.search
    for family in FAMILIES:
        item = None if search is None else search.total.of(family)
        why = ""
        if search is None:
            why = NO_SEARCH
        elif item is None:
            why = search.total.why or _not_searched(family, search)
        words = FAMILY_WORDS[family]
        found.append(row(words, item.predictor if item else "", item.path_length if item else None, why))
    formula = f"R sqrt(2 (min P + 2 r^2 ln {len(total.predictors)}))"
    known = "exponential weights over the listed predictors, rate 1 / (2 r^2)"
    aggregate = row("aggregate", "listed", *_aggregated(analysis), "logged")
    found.append(dataclasses.replace(aggregate, formula=formula, assumptions=(*convex, known)))
    return found


def beyond_standing_still(analysis: Analysis, radius: float, value: float | None) -> bool:
    """Whether a regret bound is no less than what never moving from x_0 has at most."""
    norms = analysis.steps.grad_norm
    if not value or not norms.size:
        return False
    return value >= radius * math.sqrt(2) * float(norms.sum()) * (1 - 1e-12)


def _aggregated(analysis: Analysis) -> tuple[float | None, str]:
    """min P + 2 r^2 ln K of the listed predictors, or why there is none."""
    why = no_best(analysis) or no_series(analysis)
    if why:
        return None, why
    total = analysis.total
    largest = float(largest_residuals(analysis)[-1])
    return min(p.path_length for p in total.predictors) + 2 * largest * math.log(len(total.predictors)), ""


def _not_searched(family: str, search: PredictorSearch) -> str:
    if family in ("mean", "lags") and search.total.of("mean") is None:
        return "memory holds averages alone: give more --memory"
    return "one average alone is as good" if family == "mixture" else "too few rows"


def largest_residuals(analysis: Analysis) -> NDArray[np.float64]:
    """(N,): the largest ||g_t - m_t||^2 so far of the listed predictors, `zero` among them, from t = 1 on."""
    steps = analysis.steps
    worst = np.maximum.reduce([steps.grad_norm**2, *steps.path_length.values()])
    worst[:1] = 0.0
    return np.maximum.accumulate(worst)
