"""Answers that cannot be given, with the reason."""

from __future__ import annotations

from .decision import NONE, UNKNOWN, Decision, Figure
from .evidence import NO_STEPS


def unknown(
    quantity: str, scope: str | None, why: str, source: str, figures: tuple[Figure, ...] = ()
) -> Decision:
    """A decision that cannot be taken."""
    return Decision(quantity, scope, UNKNOWN, why, figures, NONE, source)


def without_steps(quantity: str, source: str) -> list[Decision]:
    """One answer for all scopes, where the analysis holds no steps."""
    return [unknown(quantity, None, NO_STEPS, source)]
