"""Gates over comparisons: rules about the run itself, about how far it moved, and about verdicts."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence

import numpy as np

from ..gates.gate_rule import Limit, Rule, Vocabulary
from ..gates.gates import Breach, Violation, change, compare, judge, read_quantity, worst_first
from ..results.quantities import BEST, BETTER, HIGHER, LOWER, QUANTITIES, WORSE, Reading, of_comparisons
from ..results.reasons import ALL_ZERO
from ..results.result import ScopeResult, Settings
from ..results.row_kind import RowKind
from ..statistics.multiple_testing import holm
from .comparison import NO_CHANGE, Change, Comparison, ScopeComparison, verdict_alone

JUDGED = tuple(quantity.name for quantity in of_comparisons() if quantity.judged)
"""Quantities that a comparison can have a verdict on."""


def comparison_vocabulary(settings: Sequence[Settings]) -> Vocabulary:
    """What rules can speak of where runs were analyzed with these settings: what all of them have."""
    first, *others = map(Vocabulary.of, settings)
    return Vocabulary(
        [spec for spec in first.predictors if all(spec in other.predictors for other in others)],
        [epsilon for epsilon in first.epsilons if all(epsilon in other.epsilons for other in others)],
        spectrum=all(known.spectrum for known in (first, *others)),
        baseline=True,
        judged=JUDGED,
    )


def judge_comparison(comparison: Comparison, rules: Iterable[Rule]) -> tuple[Violation, ...]:
    """The rules that the run violates, in their order. Plain limits are about the run alone.

    Where a verdict is asked of many tensors, Holm's procedure keeps the chance that any of them is called by
    noise alone at 1 - the comparison's confidence.
    """
    found: list[Violation] = []
    for rule in rules:
        if isinstance(rule.condition, Limit) and rule.condition.of_run:
            found += judge(comparison.run, [rule])
        else:
            found += _judge(comparison, rule)
    return tuple(found)


def _judge(comparison: Comparison, rule: Rule) -> list[Violation]:
    run = comparison.run.run.path
    pattern = rule.pattern
    breaches = []
    if pattern is None:
        scopes: Sequence[ScopeComparison] = (comparison.total,)
    else:
        scopes = [scope for scope in comparison.tensors if fnmatch.fnmatchcase(scope.name or "", pattern)]
        breaches = _unmatched(comparison, pattern)
        if not scopes and not breaches:
            return [Violation(run, rule, (), tuple(scope.name or "" for scope in comparison.tensors))]
    if isinstance(rule.condition, Limit):
        limit = rule.condition
        judged = [_against_limit(comparison, scope, rule, limit) for scope in scopes]
    else:
        word, changes = rule.condition, [scope.change(rule.subject) for scope in scopes]
        if pattern is not None:
            changes = _called_among_many(changes, rule, 1 - comparison.confidence)
        kind = comparison.run.run.kind
        judged = [_against_verdict(*found, rule, word, kind) for found in zip(scopes, changes, strict=True)]
    breaches += [breach for breach in judged if breach is not None]
    if not breaches:
        return []
    return [Violation(run, rule, worst_first(breaches, rule))]


def _called_among_many(changes: Sequence[Change | None], rule: Rule, level: float) -> list[Change | None]:
    """Changes of the tensors that a rule is about, with the verdicts that Holm's procedure leaves."""
    found = list(changes)
    judged = [(at, each, each.p) for at, each in enumerate(changes) if each and each.p is not None]
    called = holm(np.array([p for _, _, p in judged]), level).tolist()
    for (at, each, _), kept in zip(judged, called, strict=True):
        word = verdict_alone(each, QUANTITIES[rule.quantity]) if kept else NO_CHANGE
        found[at] = dataclasses.replace(each, verdict=word)
    return found


def _unmatched(comparison: Comparison, pattern: str) -> list[Breach]:
    """Tensors that the rule is about and only one of the runs has: of their change nothing is known."""
    sides = (
        (comparison.only_baseline, comparison.baseline.run.path),
        (comparison.only_run, comparison.run.run.path),
    )
    return [
        Breach(name, Reading.nothing(f"only {path} has it: leave it out with --exclude"), certain=False)
        for names, path in sides
        for name in names
        if fnmatch.fnmatchcase(name, pattern)
    ]


def _against_limit(comparison: Comparison, scope: ScopeComparison, rule: Rule, limit: Limit) -> Breach | None:
    before, after = _ends(comparison, scope, rule)
    moved = change(before, after, limit.kind).about(comparison.run.run.kind)
    holds = compare(moved, limit)
    if holds is False:
        return None
    return Breach(scope.name, moved, holds is True, before.value, after.value)


def _ends(comparison: Comparison, scope: ScopeComparison, rule: Rule) -> tuple[Reading, Reading]:
    """The quantity in the baseline and in the run; the best predictors are those among what both measured."""
    ends = []
    for side, best in zip((comparison.baseline, comparison.run), scope.best, strict=True):
        if rule.argument == BEST and best is None:
            ends.append(Reading.nothing(ALL_ZERO))
            continue
        of_side = dataclasses.replace(rule, argument=best) if rule.argument == BEST and best else rule
        ends.append(read_quantity(_scope(side.total, side.tensors, scope.name), of_side, side.run.rows))
    return ends[0], ends[1]


def _scope(total: ScopeResult, tensors: Sequence[ScopeResult], name: str | None) -> ScopeResult:
    if name is None:
        return total
    return next(tensor for tensor in tensors if getattr(tensor, "name", None) == name)


def _against_verdict(
    scope: ScopeComparison, found: Change | None, rule: Rule, word: str, kind: RowKind
) -> Breach | None:
    if found is None:
        return Breach(scope.name, Reading.nothing("one of the runs has no such figure"), certain=False)
    if found.baseline is None or found.value is None:
        return Breach(scope.name, Reading.nothing(ALL_ZERO).about(kind), certain=False)
    if found.verdict is not None:
        if found.verdict not in _verdicts(rule.quantity, word):
            return None
        return Breach(scope.name, _relative(found, ""), True, found.baseline, found.value)
    doubt = found.why or "there is no interval to judge by"
    return Breach(scope.name, _relative(found, doubt), False, found.baseline, found.value)


def _verdicts(quantity: str, word: str) -> set[str]:
    """The verdicts that make a word true of a quantity."""
    lower, higher = QUANTITIES[quantity].verdicts
    return {WORSE: {WORSE}, BETTER: {BETTER}, HIGHER: {higher}, LOWER: {lower}}.get(word, {lower, higher})


def _relative(found: Change, doubt: str) -> Reading:
    """A change in percent, between the ends of its interval."""
    if found.relative is None:
        return Reading.nothing(doubt)
    low, high = found.interval or (found.relative, found.relative)
    return Reading(100 * found.relative, 100 * low, 100 * high, doubt)
