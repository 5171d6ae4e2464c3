"""Tensors that have converged while the others go on, and could be frozen, and from when on.

GradES stops updating a matrix once the size of its gradient, or of the change of its gradient from step to
step, falls below a threshold tau after a grace period. It takes sums of absolute values and a tau tuned by
hand; here there are l2 norms, of ||g_t|| and of ||g_t - g_{t-1}||, and tau is 1 percent of the tensor's own
typical level (see `levels`): a share, without units, in (0, 1). A tensor could be frozen from the first row
on after which both stay below it to the end, past a grace period of a tenth of the run, and so does its level
over that of the rest of the model: where all gradients get small together the model converges, and its last
steps are as much this tensor's as any other's. Where the optimizer rescales gradients (Adam and the like, as
the log's attributes say), their size says nothing of updates, and there is no verdict; a log of updates has
them, whatever the optimizer, and a learning rate that falls counts for all tensors alike. Tensors that `dead`
names are left to it. Minibatch noise keeps gradients above such a tau for good: silence here is no proof of
movement.
"""

from __future__ import annotations

import numpy as np

from ..results.reasons import ALL_ZERO
from ..results.training import adaptive_optimizer
from ..statistics.levels import NEARLY, quiet_since, typical_level
from .decision import CERTAIN, CHANGE, KEEP, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps
from .missing import unknown

NAME = "frozen"
SOURCE = "GradES, arXiv 2509.01842"
TAU = 0.01
GRACE = 0.1


def decide(evidence: Evidence) -> list[Decision]:
    """For each tensor."""
    if not evidence.tensors:
        return [unknown(NAME, None, evidence.no_tensors, SOURCE)]
    optimizer = adaptive_optimizer(evidence.analysis.run.attributes)
    if optimizer and not evidence.kind.of_updates:
        why = f"{optimizer} rescales gradients: their size says nothing of updates"
        return [unknown(NAME, tensor.name, why, SOURCE) for tensor in evidence.tensors]
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
    figures: tuple[Figure, ...] = (
        Figure("level_at_end", last),
        Figure("change_at_end", float(np.median(change[-end:]) / typical)),
    )
    quiet = np.maximum(level, change) / typical
    since = _late(quiet_since(quiet, TAU), level.size)
    if since is None or last <= NEARLY:
        text = "left to `dead`" if last <= NEARLY else "nothing to change: still moving"
        return Decision(NAME, scope.name, KEEP, text, figures, CERTAIN, SOURCE)
    beside = beside_others(evidence, scope)
    since = None if beside is None else _late(quiet_since(np.maximum(quiet, beside), TAU), level.size)
    if beside is None or since is None:
        text = "nothing to change: the whole model converges"
        return Decision(NAME, scope.name, KEEP, text, figures, CERTAIN, SOURCE)
    figures += (Figure("beside_others", float(np.median(beside[-end:]))),)
    row = int(scope.first[since])
    text = f"freeze from step {evidence.step(row)} on"
    return Decision(
        NAME, scope.name, CHANGE, text, (*figures, Figure("since_row", float(row))), CERTAIN, SOURCE, 70
    )


def _late(since: int | None, bins: int) -> int | None:
    """The bin, unless it lies within the grace period."""
    return None if since is None or since < GRACE * bins else since


def beside_others(evidence: Evidence, scope: ScopeSteps) -> Doubles | None:
    """(n,) the tensor's level over that of the rest of the model, over its own typical value.

    None where there is no rest, or it is zero somewhere: it shows no progress to hold a tensor against.
    """
    rest = np.sum([tensor.energy for tensor in evidence.tensors if tensor is not scope], axis=0)
    if not (np.ndim(rest) and (rest > 0).all()):
        return None
    ratio = np.sqrt(scope.energy / rest)
    return np.asarray(ratio / typical_level(ratio))
