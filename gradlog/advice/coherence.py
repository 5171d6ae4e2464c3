"""How far neighbouring gradients agree: m-coherence over windows of successive rows.

Chatterjee and Zielinski: of m gradients, alpha = ||sum g||^2 / sum ||g||^2, in [0, m]: 1 where they are
orthogonal, as independent noise is in many dimensions, and m where they are the same. Theirs are of single
examples; these are of the K logged rows before t, whose mean is the predictor mean:K: alpha = K sum_t
||m_t||^2 / sum_t E_t, E_t the mean of ||g||^2 over the window, t >= K, for the largest K that was measured.
Without units. Near K, rows repeat one another and a smaller batch would do; near 1 noise rules and
averaging pays. In few dimensions a gradient that keeps its sign looks like repetition: tensors of fewer than
LEAST_PARAMETERS are told of and decide nothing.
"""

from __future__ import annotations

import numpy as np

from ..results.reasons import ALL_ZERO
from .decision import BOOTSTRAP, CLEAR, ESTIMATE, KEEP, NOTE, WEAK, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps
from .missing import of_each_scope, unknown

NAME = "coherence"
SOURCE = "Chatterjee and Zielinski, arXiv 2008.01217"
LEAST_PARAMETERS = 32
"""Directions of independent noise have cosines of about 1 / sqrt(D): below 0.2 from here on."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    return of_each_scope(evidence, NAME, SOURCE, _of_scope)


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Decision:
    lengths = [int(spec.removeprefix("mean:")) for spec in scope.residual if spec.startswith("mean:")]
    window = max(lengths, default=0)
    if window < 2:
        return unknown(NAME, scope.name, "needs a predictor mean:K", SOURCE)
    if scope.first.size <= window:
        return unknown(NAME, scope.name, f"fewer than {window + 1} rows", SOURCE)
    if scope.result.energy == 0:
        return unknown(NAME, scope.name, ALL_ZERO, SOURCE)
    if int(scope.rows.max()) > 1:
        return unknown(NAME, scope.name, "sums are kept by bins of rows: give fewer rows with --rows", SOURCE)

    def alpha(sums: Doubles) -> Doubles:
        return np.asarray(window * sums[..., 0] / sums[..., 1])

    found = evidence.bootstrap.interval(window_sums(scope, window), alpha, 2.0 * window, fixed=0)
    if found.value is None:
        return unknown(NAME, scope.name, ALL_ZERO, SOURCE)
    basis = ESTIMATE if found.lower is None else BOOTSTRAP
    figure = Figure(f"alpha[{window}]", found.value, found.lower, found.upper, basis)
    if scope.result.parameters < LEAST_PARAMETERS:
        text = f"nothing to change: tells little in fewer than {LEAST_PARAMETERS} parameters"
        return Decision(NAME, scope.name, KEEP, text, (figure,), WEAK, SOURCE)
    if found.lower is not None and found.lower > window / 2:
        text = "rows repeat: try smaller batches"
        return Decision(NAME, scope.name, NOTE, text, (figure,), CLEAR, SOURCE, 15)
    noise = found.lower is not None and found.upper is not None and found.upper < window / 2
    text = "nothing to change: neighbours don't repeat"
    return Decision(NAME, scope.name, KEEP, text, (figure,), CLEAR if noise else WEAK, SOURCE)


def window_sums(scope: ScopeSteps, window: int) -> Doubles:
    """(N - window, 2) of each row t >= window: ||m_t||^2, and the mean of ||g||^2 over the rows before it."""
    squares = scope.prediction(f"mean:{window}")[window:]
    means = np.lib.stride_tricks.sliding_window_view(scope.energy, window).mean(axis=1)[:-1]
    return np.stack([squares, means], axis=1)
