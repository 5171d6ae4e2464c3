"""Answers that cannot be given, with the reason."""

from __future__ import annotations

from collections.abc import Callable

from .decision import NONE, UNKNOWN, Decision, Figure
from .evidence import NO_STEPS, Evidence, ScopeSteps


def unknown(
    quantity: str, scope: str | None, why: str, source: str, figures: tuple[Figure, ...] = ()
) -> Decision:
    """A decision that cannot be taken."""
    return Decision(quantity, scope, UNKNOWN, why, figures, NONE, source)


def of_each_scope(
    evidence: Evidence,
    quantity: str,
    source: str,
    decide: Callable[[Evidence, ScopeSteps], Decision],
    *,
    varying: bool = False,
) -> list[Decision]:
    """The decision on the whole model and on each tensor; one for all where the analysis holds no steps.

    varying : it rests on how figures vary from row to row, which takes enough rows that carry the energy
    """
    if not evidence.scopes:
        return [unknown(quantity, None, NO_STEPS, source)]
    return [
        unknown(quantity, scope.name, scope.few_rows, source)
        if varying and scope.few_rows
        else decide(evidence, scope)
        for scope in evidence.scopes
    ]
