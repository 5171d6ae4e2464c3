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
    evidence: Evidence, quantity: str, source: str, decide: Callable[[Evidence, ScopeSteps], Decision]
) -> list[Decision]:
    """The decision on the whole model and on each tensor; one for all where the analysis holds no steps."""
    if not evidence.scopes:
        return [unknown(quantity, None, NO_STEPS, source)]
    return [decide(evidence, scope) for scope in evidence.scopes]
