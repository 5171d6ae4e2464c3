"""Answers that cannot be given, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias

from .decision import NONE, UNKNOWN, Decision, Figure
from .evidence import NO_STEPS, Evidence, ScopeSteps
from .intervals import Asked, Interval

Asking: TypeAlias = Generator[Asked, Interval, Decision]
"""Decides on a scope, and asks for intervals on the way."""
TOGETHER = 128
"""Scopes whose sums are held at once."""


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
) -> list[Decision]:
    """The decision on the whole model and on each tensor; one for all where the analysis holds no steps."""
    if not evidence.scopes:
        return [unknown(quantity, None, NO_STEPS, source)]
    return [decide(evidence, scope) for scope in evidence.scopes]


def of_varying_scopes(
    evidence: Evidence, quantity: str, source: str, decide: Callable[[Evidence, ScopeSteps], Asking]
) -> list[Decision]:
    """The same, where a decision rests on how figures vary from row to row.

    That takes enough rows that carry the energy. Intervals are asked for by `yield`: those of many scopes are
    worked out together.
    """
    scopes = evidence.scopes
    if not scopes:
        return [unknown(quantity, None, NO_STEPS, source)]
    found = {
        number: unknown(quantity, scope.name, scope.few_rows, source)
        for number, scope in enumerate(scopes)
        if scope.few_rows
    }
    varying = [number for number in range(len(scopes)) if number not in found]
    for at in range(0, len(varying), TOGETHER):
        asking = {number: decide(evidence, scopes[number]) for number in varying[at : at + TOGETHER]}
        answers: dict[int, Interval | None] = dict.fromkeys(asking)
        while answers:
            asked = {}
            for number, answer in answers.items():
                try:
                    asked[number] = next(asking[number]) if answer is None else asking[number].send(answer)
                except StopIteration as end:
                    found[number] = end.value
            answers = dict(zip(asked, evidence.bootstrap.intervals(list(asked.values())), strict=True))
    return [found[number] for number in range(len(scopes))]
