"""Which memory a momentum buffer should have: the exponential average that points best at the next gradient.

For each listed ema:B, scaled kappa = min over c of sum ||g_t - c m_t||^2 / sum ||g_t||^2, without units, in
[0, 1]: the size c of a momentum step is the learning rate's business, its direction is the memory's. The
best B is named with all others that cannot be told from it: the interval of the difference of their
logarithms, over the same resampled rows, holds 0. Where a search was made, B is found to 0.001 (in a band,
among the decays of its grid), and two memories as in AdEMAMix are named where no single average comes within
1 percent of a mixture on rows that neither was chosen on; that is a figure without an interval of its own.
Where the shortest wins, there is little noise to average away: that says nothing about momentum as
acceleration. Rows are logged steps: where only every k-th step was logged, B speaks of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..results.reasons import ALL_ZERO
from ..statistics.step_sums import scaled_kappa
from .decision import BOOTSTRAP, CHANGE, CLEAR, KEEP, NOTE, WEAK, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps
from .missing import of_each_scope, unknown

NAME = "momentum"
SOURCE = "AdEMAMix, arXiv 2409.03137"
WORTH = 0.9
"""Scaled kappa below which an average points anywhere near the next gradient."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    return of_each_scope(evidence, NAME, SOURCE, _of_scope)


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Decision:
    def told(verdict: str, text: str, confidence: str, weight: float, *figures: Figure) -> Decision:
        return Decision(NAME, scope.name, verdict, text, figures, confidence, SOURCE, weight)

    averages = {
        p.predictor: p.scaled_kappa
        for p in scope.result.predictors
        if p.predictor.startswith("ema:") and p.scaled_kappa is not None and p.predictor in scope.residual
    }
    rows = evidence.analysis.run.rows
    if rows < 3:
        return unknown(NAME, scope.name, "too few rows to average over", SOURCE)
    if not averages:
        zero = scope.result.energy == 0
        why = ALL_ZERO if zero else "no average was measured: give --predictor ema:B"
        return unknown(NAME, scope.name, why, SOURCE)
    best = min(averages, key=lambda spec: (averages[spec], spec))
    value = averages[best]
    interval = evidence.bootstrap.interval(_columns(scope, best), log_scaled_kappa, scope.memory_bins(best))
    if interval.lower is None or interval.upper is None:
        figure = Figure(f"scaled_kappa[{best}]", value)
    else:
        ends = math.exp(interval.lower), min(1.0, math.exp(interval.upper))
        figure = Figure(f"scaled_kappa[{best}]", value, *ends, BOOTSTRAP)
    if value >= WORTH:
        sure = figure.lower is not None and figure.lower >= WORTH
        text = "nothing to change: no average points at the next gradient"
        return told(KEEP, text, CLEAR if sure else WEAK, 0, figure)
    if figure.upper is None or figure.upper >= WORTH:
        text = f"nothing to change: {best} fits best, within noise"
        return told(KEEP, text, WEAK, 0, figure)
    equal = [best]
    for other in averages:
        if other != best:
            both = np.concatenate([_columns(scope, best), _columns(scope, other)], axis=1)
            memory = max(scope.memory_bins(best), scope.memory_bins(other))
            apart = evidence.bootstrap.interval(both, log_difference, memory)
            if apart.upper is None or apart.upper >= 0:
                equal.append(other)
    if len(equal) == len(averages) > 1:
        text = f"nothing to change: {' and '.join(equal)} fit alike, within noise"
        return told(KEEP, text, WEAK, 0, figure)
    of_rows = "" if evidence.stride == 1 else f" of rows, {evidence.stride} steps apart"
    beside = f" (or {', '.join(_decay(spec) for spec in equal[1:])})" if equal[1:] else ""
    if best == min(averages, key=lambda spec: float(_decay(spec))):
        text = f"memory {_decay(best)} or less: little noise"
        return told(NOTE, text, CLEAR, 12, figure)
    search = evidence.search(scope.name)
    finest = None if search is None else search.of("ema")
    if search is not None and search.best is not None and search.best.family == "mixture":
        mixed = search.best
        figure = Figure(f"held_out[{mixed.predictor}]", mixed.held_out, mixed.lower, mixed.upper, BOOTSTRAP)
        return told(CHANGE, f"two memories, {mixed.predictor}", WEAK, 40, figure)
    if finest is not None and finest.predicts and evidence.stride == 1:
        alike = f"; {', '.join(_decay(spec) for spec in equal)} fit alike" if equal[1:] else ""
        exact = Figure(
            f"held_out[{finest.predictor}]", finest.held_out, finest.lower, finest.upper, BOOTSTRAP
        )
        return told(CHANGE, f"memory {_decay(finest.predictor)}{alike}", CLEAR, 40, figure, exact)
    return told(CHANGE, f"memory {_decay(best)}{_beyond(best, averages)}{beside}{of_rows}", CLEAR, 40, figure)


def _beyond(best: str, averages: Mapping[str, float]) -> str:
    """What lies past either end of the list was not measured."""
    order = sorted(averages, key=lambda spec: float(_decay(spec)))
    if len(order) < 2 or best not in (order[0], order[-1]):
        return ""
    return " or less" if best == order[0] else " or more"


def _decay(spec: str) -> str:
    return spec.removeprefix("ema:")


def _columns(scope: ScopeSteps, spec: str) -> Doubles:
    return np.stack([scope.energy, scope.residual[spec], scope.product[spec]], axis=1)


def log_scaled_kappa(sums: Doubles) -> Doubles:
    """Logarithm of scaled kappa from sums (..., 3) of ||g||^2, ||g - m||^2 and <g, m>."""
    return np.asarray(np.log(scaled_kappa(sums[..., 0], sums[..., 1], sums[..., 2])))


def log_difference(sums: Doubles) -> Doubles:
    """The first predictor's logarithm less the second's, from sums (..., 6)."""
    return np.asarray(log_scaled_kappa(sums[..., :3]) - log_scaled_kappa(sums[..., 3:]))
