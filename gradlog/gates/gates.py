"""Gates: which rules a result violates, and where that cannot be said for certain.

A gate that cannot stand behind "passed" does not pass: what cannot be decided counts as violated.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..results.projection import DEVIATIONS
from ..results.reasons import ALL_ZERO
from ..results.result import Analysis, ScopeResult, SpectrumResult, TensorResult
from .gate_rule import BEST, BY_EPSILON, QUANTITIES, Limit, Rule

NO_NUMBER = "it is beyond float64: scale the gradients"
NO_RESIDUAL = (
    "the result holds no residual, as those of an early gradmf: write it anew with analyze --format json, or "
    "give the store"
)
NO_COUNT = "the result holds none: write it anew with analyze --format json, or give the store"
SKETCHED = "a sketch estimates it; the log of gradients itself decides, or a larger sketch"
SKETCHED_UNSURE = "a sketch estimates it, with no standard error: give the log of gradients itself"


@dataclass(frozen=True)
class Reading:
    """What is known of a quantity for certain: it lies in [lower, upper].

    value : the figure to show, None where there is none: that is violated by a limit, or cannot be decided
    doubt : why lower < upper or there is no value, and what to do about it
    """

    value: float | None
    lower: float
    upper: float
    doubt: str = ""

    @classmethod
    def exact(cls, value: float) -> Reading:
        """A figure that is as good as float64 has it; none at all where it is beyond that, or no number."""
        return cls(value, value, value) if math.isfinite(value) else cls.nothing(NO_NUMBER)

    @classmethod
    def nothing(cls, why: str) -> Reading:
        """No figure at all."""
        return cls(None, -math.inf, math.inf, why)

    @property
    def sound(self) -> bool:
        """Whether all of it are numbers: NaN compares false with everything, and would pass every limit."""
        return not any(map(math.isnan, (self.value or 0.0, self.lower, self.upper)))


@dataclass(frozen=True)
class Finding:
    """Where a rule is violated, or may be. tensor : its name, None for the whole model

    reading : the quantity, or its change where the rule is about that
    certain : False where the rule cannot be decided
    before, after : the quantity in the baseline and in the run, where the rule is about its change
    """

    tensor: str | None
    reading: Reading
    certain: bool
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class Violation:
    """A rule that a run violates, with the places: certain ones first, and the worst of them first.

    Without findings the rule's pattern matches no tensor; unmatched : names of those that there are
    """

    run: str
    rule: Rule
    findings: tuple[Finding, ...]
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
    findings = []
    for scope in scopes:
        reading = read_quantity(scope, rule, analysis.run.rows)
        holds = compare(reading, rule.condition)
        if holds is not False:
            name = scope.name if isinstance(scope, TensorResult) else None
            findings.append(Finding(name, reading, certain=holds is True))
    if not findings:
        return None
    return Violation(analysis.run.path, rule, worst_first(findings, rule.condition))


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


def worst_first(findings: Iterable[Finding], condition: Limit | str) -> tuple[Finding, ...]:
    """Certain findings before others, each by how far they are past the limit."""
    symbol = condition if isinstance(condition, str) else condition.operator
    upwards = symbol in (">", ">=", "worse", "higher")
    sign = -1 if upwards else 0 if symbol in ("==", "!=", "changed") else 1

    def place(finding: Finding) -> tuple[bool, bool, float]:
        value = finding.reading.value
        return not finding.certain, value is None, 0.0 if value is None else sign * value

    return tuple(sorted(findings, key=place))


def read_quantity(scope: ScopeResult, rule: Rule, rows: int) -> Reading:
    """What is known of the rule's quantity in one scope. rows : N of the run"""
    if rule.quantity == "energy":
        return _estimate(scope, scope.energy, scope.energy_error)
    if rule.quantity == "grad_norm":
        energy = _estimate(scope, scope.energy, scope.energy_error)
        if energy.value is None:
            return energy
        value, low, high = (
            math.sqrt(max(0.0, end) / rows) for end in (energy.value, energy.lower, energy.upper)
        )
        return Reading(value, low, high, energy.doubt)
    if rule.quantity in ("kappa", "scaled_kappa", "scale", "path_length"):
        return _of_predictor(scope, rule)
    spectrum = scope.spectrum
    if spectrum is None:
        return Reading.nothing("it was analyzed with --rank none")
    if rule.quantity == "increment_energy":
        return _estimate(scope, spectrum.energy, None)
    if QUANTITIES[rule.quantity] == BY_EPSILON:
        return _of_epsilon(scope, spectrum, rule)
    return _soft_count(spectrum, rule.quantity, min(rows - 1, scope.parameters))


def _estimate(scope: ScopeResult, value: float, error: float | None) -> Reading:
    """A sum over steps, or what is made of some. error : standard error, None where there is none"""
    if not scope.estimated or error == 0.0:
        return Reading.exact(value)
    if error is None or not math.isfinite(error):
        return Reading(value, -math.inf, math.inf, SKETCHED_UNSURE)
    likely = DEVIATIONS * error
    return Reading(value, value - likely, value + likely, SKETCHED)


def _of_predictor(scope: ScopeResult, rule: Rule) -> Reading:
    result = next((p for p in scope.predictors if p.predictor == rule.argument), None)
    if rule.argument == BEST:
        result = scope.best
    value: float | None = None if result is None else getattr(result, rule.quantity)
    if result is not None and value is not None:
        return _estimate(scope, value, getattr(result, f"{rule.quantity}_error"))
    if scope.energy == 0:
        return Reading.nothing(ALL_ZERO)
    if result is None:
        measured = "no predictor but zero" if rule.argument == BEST else f"predictor {rule.argument} not"
        return Reading.nothing(f"{measured} was measured: give --predictor")
    return Reading.nothing("all predictions are zero" if rule.quantity == "scale" else NO_NUMBER)


def _of_epsilon(scope: ScopeResult, spectrum: SpectrumResult, rule: Rule) -> Reading:
    rank = next((r for r in spectrum.rank if repr(r.epsilon) == rule.argument), None)
    if rank is None:
        return Reading.nothing(f"epsilon {rule.argument} was not asked for: give --epsilon {rule.argument}")
    if rule.quantity == "rank":
        certain = rank.rank is not None and rank.lower == rank.upper
        return Reading(rank.rank, rank.lower, rank.upper, "" if certain else _advice(spectrum))
    if spectrum.method == "exact":
        return Reading.nothing(NO_RESIDUAL) if rank.residual is None else Reading.exact(rank.residual)
    # By the definition of r*, what it leaves out is at most that share.
    most = rank.epsilon * spectrum.energy
    certain_bounds = spectrum.method == "incremental"
    value = most if certain_bounds and rank.residual is None else rank.residual
    return Reading(value, 0.0, math.inf if scope.estimated else most, _estimated(spectrum))


def _soft_count(spectrum: SpectrumResult, quantity: str, dimension: int) -> Reading:
    value: float | None = getattr(spectrum, quantity)
    if value is None:
        if spectrum.energy == 0:
            return Reading.nothing("the gradients never change")
        sketch = spectrum.method == "sketch"
        return Reading.nothing("the sketch cannot tell; a larger --sketch-dim may" if sketch else NO_COUNT)
    bounds = spectrum.bounds_of(quantity)
    if bounds is None:
        return Reading(value, 1.0, max(1.0, dimension), _estimated(spectrum))
    return Reading(value, *bounds, "" if bounds[0] == bounds[1] else _advice(spectrum))


def _advice(spectrum: SpectrumResult) -> str:
    larger = "--sketch-dim" if spectrum.method == "sketch" else "--memory"
    return f"the {spectrum.method} method gives bounds; a larger {larger} narrows them"


def _estimated(spectrum: SpectrumResult) -> str:
    return f"the {spectrum.method} method estimates it; --rank exact computes it, or hold a rank[] to a limit"
