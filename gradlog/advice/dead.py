"""Tensors that are dead: no gradient from some step to the end, or next to none.

Dead: ||g_t|| = 0 for all t >= s. Nearly dead: the root mean square of ||g_t|| over every bin from s on is
below 1e-4 of the tensor's own typical level (see `levels`). s is a row, or the first of its bin where a log
of more than 1,024 rows keeps sums by bins; tails of fewer than 8 bins, or 2 percent of the run, count for
nothing. What is left is told as a share of that level, without units, in [0, 1e-4). A dead unit gets no
gradient from any input: for ReLU layers see Lu et al.; rarely used embeddings and experts look alike. Of
updates the same is told as unmoved: frozen weights look alike too, and momentum or weight decay may move dead
ones.
"""

from __future__ import annotations

from ..statistics.levels import quiet_tail
from .decision import CERTAIN, CHANGE, KEEP, Decision, Figure
from .evidence import Evidence, ScopeSteps
from .missing import unknown

NAME = "dead"
SOURCE = "Lu et al., Dying ReLU and Initialization, arXiv 1903.06733"


def decide(evidence: Evidence) -> list[Decision]:
    """For each tensor."""
    if not evidence.tensors:
        always = [t for t in evidence.analysis.tensors if t.energy == 0]
        found = [_zero(evidence, t.name) for t in always]
        return [*found, unknown(NAME, None, f"since when: {evidence.no_tensors}", SOURCE)]
    return [_of_tensor(evidence, scope) for scope in evidence.tensors]


def _zero(evidence: Evidence, name: str | None) -> Decision:
    text = f"{evidence.kind.dead}: zero at every step"
    return Decision(NAME, name, CHANGE, text, (Figure("energy", 0.0),), CERTAIN, SOURCE, 100)


def _of_tensor(evidence: Evidence, scope: ScopeSteps) -> Decision:
    level = scope.level
    if not level.any():
        return _zero(evidence, scope.name)
    tail = quiet_tail(level)
    if tail is not None:
        since, left = tail
        row = int(scope.first[since])
        told = f"{'next to ' if left else ''}{evidence.kind.dead} from step {evidence.step(row)} on"
        figures = (Figure("since_row", float(row)), Figure("level_left", left))
        return Decision(NAME, scope.name, CHANGE, told, figures, CERTAIN, SOURCE, 95)
    figure = Figure("rows_without", float(scope.rows[scope.energy == 0].sum()))
    return Decision(
        NAME,
        scope.name,
        KEEP,
        f"nothing to change: {'moved' if evidence.kind.of_updates else 'alive'}",
        (figure,),
        CERTAIN,
        SOURCE,
    )
