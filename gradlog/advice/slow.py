"""Slow against fast: how much of the gradients' energy a slow average carries.

Grokfast amplifies the slow part of the gradients, an exponential average, by a factor of 2 or so, where
generalization lags behind. Its share is sum <g_t, m_t> / sum ||g_t||^2 for the slowest ema:B that was
measured: independent noise adds nothing to it (||m_t||^2 alone has (1 - B) / (1 + B) of the noise), so that
it estimates the energy of what persists for 1 / (1 - B) rows and more. Without units; at most about 1,
below 0 where gradients turn back.
"""

from __future__ import annotations

import numpy as np

from ..results.reasons import ALL_ZERO
from .decision import BOOTSTRAP, CLEAR, ESTIMATE, KEEP, NOTE, WEAK, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps
from .missing import of_each_scope, unknown

NAME = "slow"
SOURCE = "Grokfast, arXiv 2405.20233"
LEAST = 0.02
"""A share that cannot be told from less than this is not worth a filter."""
SMALL = 0.25
"""Below this share amplifying would change where a step goes; above it momentum carries the slow part."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    return of_each_scope(evidence, NAME, SOURCE, _of_scope)


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Decision:
    rows = evidence.analysis.run.rows
    averages = [spec for spec in scope.residual if spec.startswith("ema:")]
    if not averages:
        return unknown(NAME, scope.name, "needs a predictor ema:B", SOURCE)
    if scope.result.energy == 0:
        return unknown(NAME, scope.name, ALL_ZERO, SOURCE)
    if rows < 2:
        return unknown(NAME, scope.name, "one row has no past", SOURCE)
    spec = max(averages, key=lambda s: float(s.removeprefix("ema:")))
    sums = np.stack([scope.energy, scope.product[spec]], axis=1)
    found = evidence.bootstrap.interval(sums, share, scope.memory_bins(spec))
    if found.value is None:
        return unknown(NAME, scope.name, "all gradients but the first are zero", SOURCE)
    basis = ESTIMATE if found.lower is None else BOOTSTRAP
    figure = Figure(f"slow_share[{spec}]", found.value, found.lower, found.upper, basis)
    if found.lower is None or found.upper is None or found.lower <= 0:
        text = "nothing to change: no slow part beyond noise"
        return Decision(NAME, scope.name, KEEP, text, (figure,), WEAK, SOURCE)
    if found.lower < LEAST:
        text = "nothing to change: next to no slow part"
        return Decision(
            NAME, scope.name, KEEP, text, (figure,), CLEAR if found.upper < LEAST else WEAK, SOURCE
        )
    if found.upper < SMALL:
        text = "small slow part: may be amplified"
        return Decision(NAME, scope.name, NOTE, text, (figure,), CLEAR, SOURCE, 20)
    text = "nothing to change: momentum carries the slow part"
    return Decision(NAME, scope.name, KEEP, text, (figure,), CLEAR if found.lower >= SMALL else WEAK, SOURCE)


def share(sums: Doubles) -> Doubles:
    """From sums (..., 2) of ||g||^2 and <g, m>."""
    return np.asarray(sums[..., 1] / sums[..., 0])
