"""Is a hint worth it: optimism and look-ahead, with the best of the predictors.

Optimistic mirror descent with hints m_t has regret of at most R sqrt(2 P(m)), against R sqrt(2 sum
||g_t||^2) without hints: the bound shrinks by sqrt(kappa). Kappa is without units, at least 0, and above 1
where the hint does harm. Optimistic AMSGrad takes such a hint in place of the coming gradient; XGrad
predicts the next weights with one.

Where a search for the best predictors was made (`gradlog.predictor_search`), its best one takes the place of
the listed ones if it leaves less, with kappa on rows that it was not chosen on.

The interval is that of the best predictor's kappa, each of K predictors at 1 - 0.05 / K (Bonferroni), since
the best one was picked on the same rows. A hint is called worth it where the upper end lies below 0.9: less
than 5 percent off the bound is not worth another state vector.
"""

from __future__ import annotations

import math

import numpy as np

from ..results.reasons import ALL_ZERO
from ..statistics.step_intervals import MOST_LOGARITHM
from .decision import (
    BOOTSTRAP,
    CERTAIN,
    CHANGE,
    CLEAR,
    FACT,
    KEEP,
    NONE,
    UNKNOWN,
    WEAK,
    Decision,
    Doubles,
    Figure,
)
from .evidence import Evidence, ScopeSteps
from .intervals import CONFIDENCE, Asked
from .missing import Asking, of_varying_scopes

NAME = "hint"
SOURCE = "optimistic AMSGrad, arXiv 1903.01435; XGrad, arXiv 2305.18240"
WORTH = 0.9
"""Kappa below which a hint pays: the bound then falls by more than 5 percent."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    listed = of_varying_scopes(evidence, NAME, SOURCE, _of_scope)
    return [_searched(evidence, decision) for decision in listed]


def _searched(evidence: Evidence, decision: Decision) -> Decision:
    """The decision with what the search found in place of the listed predictors, where that predicts more."""
    search = evidence.search(decision.scope)
    best = None if search is None else search.best
    if best is None or best.held_out is None or best.upper is None or decision.verdict == UNKNOWN:
        return decision
    listed = decision.figures[0].value
    if evidence.stride > 1 or best.upper >= WORTH or (listed is not None and best.held_out > 0.99 * listed):
        return decision
    named = best.predictor
    if best.family == "lags":
        named = f"{len(best.predictor.split(','))} lags by least squares"
    figure = Figure(f"held_out[{best.predictor}]", best.held_out, best.lower, best.upper, BOOTSTRAP)
    bound = Figure("bound", math.sqrt(best.held_out), basis=BOOTSTRAP)
    text = f"use {named} as hint"
    return Decision(NAME, decision.scope, CHANGE, text, (figure, bound), CLEAR, SOURCE, 50)


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Asking:
    def told(verdict: str, text: str, confidence: str, weight: float, *figures: Figure) -> Decision:
        return Decision(NAME, scope.name, verdict, text, figures, confidence, SOURCE, weight)

    best = scope.result.best
    rows = evidence.analysis.run.rows
    if rows < 2:
        return told(UNKNOWN, "one row has no past to predict from", NONE, 0)
    if best is None or best.kappa is None:
        return told(UNKNOWN, f"{ALL_ZERO}: nothing to predict", NONE, 0)
    if best.predictor not in scope.residual:
        return told(UNKNOWN, "the result holds no sums of its best predictor: write it anew", NONE, 0)
    spec, count = best.predictor, len(scope.residual)
    interval = yield Asked(
        _columns(scope, spec), log_kappa,
        scope.memory_bins(spec),
        1 - (1 - CONFIDENCE) / count,
    )  # fmt: skip
    if interval.lower is None or interval.upper is None:
        kappa = Figure(f"kappa[{spec}]", best.kappa)
    else:
        lower, upper = (math.exp(min(end, MOST_LOGARITHM)) for end in (interval.lower, interval.upper))
        kappa = Figure(f"kappa[{spec}]", best.kappa, lower, upper, BOOTSTRAP)
    bound = Figure("bound", math.sqrt(best.kappa), basis=FACT if kappa.basis == FACT else BOOTSTRAP)
    if best.kappa >= WORTH:
        sure = kappa.lower is not None and kappa.lower >= WORTH
        if kappa.lower is None and best.kappa >= 1:
            return told(KEEP, "no hint beat predicting nothing on these rows", CERTAIN, 0, kappa, bound)
        text = "nothing to change: no hint predicts enough"
        return told(KEEP, text, CLEAR if sure else WEAK, 0, kappa, bound)
    if evidence.stride > 1:
        text = (
            f"{spec} would serve as a hint from logged row to row, {evidence.stride} training steps apart; "
            "log every step to tell for steps"
        )
        return told(KEEP, text, WEAK, 0, kappa, bound)
    if kappa.upper is None:
        text = f"{spec} as a hint may pay: too few rows to say how surely"
        return told(KEEP, text, WEAK, 0, kappa, bound)
    if kappa.upper >= WORTH:
        text = f"{spec} as a hint may pay, within noise it may not: nothing to change"
        return told(KEEP, text, WEAK, 0, kappa, bound)
    return told(CHANGE, f"use {spec} as hint", CLEAR, 50, kappa, bound)


def _columns(scope: ScopeSteps, spec: str) -> Doubles:
    return np.stack([scope.energy, scope.residual[spec]], axis=1)


def log_kappa(sums: Doubles) -> Doubles:
    """Logarithm of kappa from sums (..., 2) of ||g||^2 and ||g - m||^2."""
    return np.asarray(np.log(sums[..., 1] / sums[..., 0]))
