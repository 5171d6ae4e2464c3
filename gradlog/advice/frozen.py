"""Tensors that have converged and could be frozen, and from when on.

GradES stops updating a matrix once the size of its gradient, or of the change of its gradient from step to
step, falls below a threshold tau after a grace period. It takes sums of absolute values and a tau tuned by
hand; here there are l2 norms, of ||g_t|| and of ||g_t - g_{t-1}||, and tau is 1 percent of the tensor's own
typical level (see `levels`): a share, without units, in (0, 1). A tensor could be frozen from the first row
on after which both stay below it to the end, past a grace period of a tenth of the run. Tensors that `dead`
names are left to it. Minibatch noise keeps gradients above such a tau for good: silence here is no proof of
movement.
"""

from __future__ import annotations

import numpy as np

from ..results.reasons import ALL_ZERO
from .dead import NEARLY
from .decision import CERTAIN, CHANGE, KEEP, Decision, Figure
from .evidence import Evidence, ScopeSteps
from .levels import quiet_since, typical_level
from .missing import unknown

NAME = "frozen"
SOURCE = "GradES, arXiv 2509.01842"
TAU = 0.01
GRACE = 0.1


def decide(evidence: Evidence) -> list[Decision]:
    """For each tensor; for the whole model where all have converged."""
    if not evidence.tensors:
        return [unknown(NAME, None, evidence.no_tensors, SOURCE)]
    return [_of_tensor(evidence, scope) for scope in evidence.tensors]


def _of_tensor(evidence: Evidence, scope: ScopeSteps) -> Decision:
    level = scope.level
    typical = typical_level(level)
    if typical == 0.0:
        return unknown(NAME, scope.name, ALL_ZERO, SOURCE)
    if "one-step" not in scope.residual:
        return unknown(NAME, scope.name, "needs the predictor one-step", SOURCE)
    change = np.sqrt(scope.residual["one-step"] / scope.rows)
    end = max(1, level.size // 20)
    last = float(np.median(level[-end:]) / typical)
    figures = (
        Figure("level_at_end", last),
        Figure("change_at_end", float(np.median(change[-end:]) / typical)),
    )
    since = quiet_since(np.maximum(level, change), TAU * typical)
    if since is None or since < GRACE * level.size or last <= NEARLY:
        return Decision(NAME, scope.name, KEEP, _kept(last), figures, CERTAIN, SOURCE)
    row = int(scope.first[since])
    text = f"freeze from step {evidence.step(row)} on"
    return Decision(
        NAME, scope.name, CHANGE, text, (*figures, Figure("since_row", float(row))), CERTAIN, SOURCE, 70
    )


def _kept(last: float) -> str:
    return "left to `dead`" if last <= NEARLY else "nothing to change: still moving"
