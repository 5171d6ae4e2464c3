"""Gates: which rules a result violates, and where that cannot be said for certain.

A gate that cannot stand behind "passed" does not pass: what cannot be decided counts as violated.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence

from ..errors import UsageError
from ..quick_dataclass import dataclass
from ..results.quantities import BETTER, HIGHER, LOWER, NO_FIGURE, NO_NUMBER, QUANTITIES, WORSE, Reading
from ..results.result import Analysis, ScopeResult, TensorResult
from .gate_rule import NOISE, Limit, Rule


@dataclass(frozen=True)
class Breach:
    """Where a rule is violated, or may be. tensor : its name, None for the whole model

    reading : the quantity, or its change where the rule is about that
    certain : False where the rule cannot be decided
    before, after : the quantity in the baseline and in the run, where the rule is about its change
    noise : what independent noise has, where the rule is about a multiple of that
    """

    tensor: str | None
    reading: Reading
    certain: bool
    before: float | None = None
    after: float | None = None
    noise: float | None = None


@dataclass(frozen=True)
class Violation:
    """A rule that a run violates, with the places: certain ones first, and the worst of them first.

    Without breaches the rule's pattern matches no tensor; unmatched : names of those that there are
    """

    run: str
    rule: Rule
    breaches: tuple[Breach, ...]
    unmatched: tuple[str, ...] = ()


def judge(analysis: Analysis, rules: Iterable[Rule]) -> tuple[Violation, ...]:
    """The absolute rules that a run violates, in their order."""
    found = (_judge(analysis, rule) for rule in rules)
    return tuple(violation for violation in found if violation is not None)


def _judge(analysis: Analysis, rule: Rule) -> Violation | None:
    if not isinstance(rule.condition, Limit):
        raise UsageError(f"'{rule}' is a rule of comparisons: judge_comparison takes it")
    scopes = scopes_of(analysis, rule.pattern)
    if not scopes:
        return Violation(analysis.run.path, rule, (), tuple(tensor.name for tensor in analysis.tensors))
    kind = analysis.run.kind
    breaches = []
    for scope in scopes:
        reading, limit, noise = read_quantity(scope, rule, analysis.run.rows), rule.condition, None
        if limit.kind == NOISE:
            noise = _noise(scope, rule, analysis.run.rows)
            limit = Limit(limit.operator, limit.number * noise if noise is not None else math.nan)
            if noise is None and reading.value is not None:
                reading = Reading.nothing(NO_FIGURE)
        holds = None if math.isnan(limit.number) else compare(reading, limit)
        if holds is not False:
            name = scope.name if isinstance(scope, TensorResult) else None
            breaches.append(Breach(name, reading.about(kind), certain=holds is True, noise=noise))
    if not breaches:
        return None
    return Violation(analysis.run.path, rule, worst_first(breaches, rule))


def _noise(scope: ScopeResult, rule: Rule, rows: int) -> float | None:
    """What independent noise has in place of the rule's quantity."""
    return QUANTITIES[QUANTITIES[rule.quantity].reference].figure(scope, rule.argument, rows)


def scopes_of(analysis: Analysis, pattern: str | None) -> Sequence[ScopeResult]:
    """The scopes that a rule is about: the whole model, or the tensors that `pattern` matches."""
    if pattern is None:
        return (analysis.total,)
    return [tensor for tensor in analysis.tensors if fnmatch.fnmatchcase(tensor.name, pattern)]


def compare(reading: Reading, limit: Limit) -> bool | None:
    """Whether `reading` OPERATOR `limit` holds; None where it depends on where in its bounds it lies.

    What has no value may be known to violate a limit, by its bounds, but is never said not to.
    """
    if not reading.sound:
        return None
    low, high, number = reading.lower, reading.upper, limit.number
    always, sometimes = {
        ">": (low > number, high > number),
        ">=": (low >= number, high >= number),
        "<": (high < number, low < number),
        "<=": (high <= number, low <= number),
        "==": (low == high == number, low <= number <= high),
        "!=": (not low <= number <= high, not low == high == number),
    }[limit.operator]
    return True if always else None if sometimes or reading.value is None else False


def change(before: Reading, after: Reading, kind: str) -> Reading:
    """By how much a quantity changed. kind : "difference", or "percent" of what it was before."""
    found = _change(before, after, kind)
    if found.sound and found.value is not None:
        return found
    return Reading.nothing(found.doubt or NO_NUMBER)


def _change(before: Reading, after: Reading, kind: str) -> Reading:
    if before.value is None or after.value is None:
        return Reading.nothing(before.doubt if before.value is None else after.doubt)
    doubt = before.doubt or after.doubt
    difference = after.value - before.value
    low, high = after.lower - before.upper, after.upper - before.lower
    if kind == "difference":
        return Reading(difference, low, high, doubt)
    if before.lower == before.upper:
        base = abs(before.value)
        return Reading(_percent(difference, base), _percent(low, base), _percent(high, base), doubt)
    if before.lower <= 0 or after.lower < 0:
        return Reading.nothing(doubt)
    base = abs(before.value)
    return Reading(
        _percent(difference, base),
        100 * (after.lower / before.upper - 1),
        100 * (after.upper / before.lower - 1),
        doubt,
    )


def _percent(difference: float, base: float) -> float:
    if base == 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return 100 * difference / base


def worst_first(breaches: Iterable[Breach], rule: Rule) -> tuple[Breach, ...]:
    """Certain breaches before others, each by how far they are past the rule's limit."""
    condition = rule.condition
    symbol = condition if isinstance(condition, str) else condition.operator
    if symbol in (WORSE, BETTER):  # by what it is called to have a higher figure
        symbol = HIGHER if QUANTITIES[rule.quantity].verdicts[1] == symbol else LOWER
    upwards = symbol in (">", ">=", HIGHER)
    sign = -1 if upwards else 0 if symbol in ("==", "!=", "changed") else 1

    def place(breach: Breach) -> tuple[bool, bool, float]:
        value = breach.reading.value
        return not breach.certain, value is None, 0.0 if value is None else sign * value

    return tuple(sorted(breaches, key=place))


def read_quantity(scope: ScopeResult, rule: Rule, rows: int) -> Reading:
    """What is known of the rule's quantity in one scope. rows : N of the run"""
    return QUANTITIES[rule.quantity].reading(scope, rule.argument, rows)
