"""Compare a run with a baseline: each quantity of each scope, its change, and whether that is noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from ..logs.repeated_steps import NOT_INCREASING, SETTLED, UNWRITTEN
from ..quick_dataclass import dataclass
from ..results.quantities import (
    BEST,
    BY_EPSILON,
    PREDICTOR,
    QUANTITIES,
    ROWS,
    Quantity,
    of_comparisons,
    spelled,
)
from ..results.reasons import ALL_ZERO, tensor_steps_elsewhere
from ..results.result import Analysis, LogWarning, ScopeResult
from ..results.row_kind import RowKind, check_same_kind
from ..sizes import SCALAR, extents
from ..statistics.multiple_testing import benjamini_hochberg
from ..statistics.spectrum_intervals import OF_TENSORS, spectrum_interval
from ..statistics.step_intervals import MOST_LOGARITHM, LogInterval, Scope, StepIntervals

if TYPE_CHECKING:
    from ..runs.relation import Relation

CONFIDENCE = 0.95
ALIGNMENTS = ("step", "fraction")
NEGLIGIBLE = 1e-6
"""Relative changes below the accuracy of the figures are none."""

MOST_NAMES = 4
"""How many tensors a warning names."""

NO_CHANGE = "~"
NO_STEPS = "it is no sum over steps"
STEPS, EXACT, BOUNDS = "steps", "exact", "bounds"


@dataclass(frozen=True)
class Change:
    """A quantity in two runs.

    quantity : its name, as rules of --fail-if spell it: ``kappa[ema:0.9]``, ``rank[0.05]``
    baseline, value : in the baseline and in the run; None where it has no value
    absolute : value - baseline; relative : value / baseline - 1, None where the baseline is 0
    interval : of `relative`, at the comparison's confidence; None where there is none
    basis : what the verdict rests on: "steps" (the interval comes from how figures vary from step to step; of
    ranks, with stretches of steps left out),
    "exact" (the figures are equal, whatever noise there is), "bounds" (of ranks, where they are not known
    exactly; there is no verdict then); None without
    verdict : "better" and "worse" for kappas (a lower one is more predictable), "higher" and "lower" for path
    lengths, norms and ranks, "~" where there may be no change; None where that cannot be said
    p : chance of so large a difference where there is none, two-sided, by this figure alone; None without
    why : why there is no interval, or none that holds noise; "" where there is one
    reference : what independent noise with the norms of the baseline, and of the run, has in the figure's
    place; None where that is not known
    """

    quantity: str
    baseline: float | None
    value: float | None
    absolute: float | None
    relative: float | None
    interval: tuple[float, float] | None
    basis: str | None
    verdict: str | None
    p: float | None = None
    why: str = ""
    reference: tuple[float | None, float | None] = (None, None)

    @property
    def significant(self) -> bool:
        """Whether the change is more than noise."""
        return self.verdict not in (None, NO_CHANGE)

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval of this figure alone leaves no change out."""
        return (
            self.basis == STEPS
            and self.interval is not None
            and not self.interval[0] <= 0 <= self.interval[1]
            and abs(self.relative or 0.0) > NEGLIGIBLE
        )


@dataclass(frozen=True)
class ScopeComparison:
    """One scope, a tensor or the whole model (name None).

    best : each run's best predictor among those that both measured; `kappa[best]` compares their kappas
    """

    name: str | None
    parameters: tuple[int, int]
    best: tuple[str | None, str | None]
    changes: tuple[Change, ...]

    def change(self, quantity: str) -> Change | None:
        """The change of the quantity of that name."""
        return next((change for change in self.changes if change.quantity == quantity), None)


@dataclass(frozen=True)
class Comparison:
    """A run against the baseline.

    tensors : those of the same name, in the baseline's order; their verdicts on a quantity are held to
    Benjamini and Hochberg's procedure over all of them, at 1 - `confidence`; intervals are each tensor's own
    only_baseline, only_run : names of tensors that the other run lacks
    relation : how the runs move relative to each other, where it was asked for (see `relate`)
    no_interval : for the whole model and for tensors, why their sums over steps come without interval; ""
    where they have one
    """

    version: str
    baseline: Analysis
    run: Analysis
    confidence: float
    align: str | None
    total: ScopeComparison
    tensors: tuple[ScopeComparison, ...]
    only_baseline: tuple[str, ...]
    only_run: tuple[str, ...]
    no_interval: tuple[str, str]
    warnings: tuple[LogWarning, ...]
    relation: Relation | None = None


def compare(
    baseline: Analysis,
    run: Analysis,
    *,
    align: str | None = None,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare a run with the baseline; both from `analyze`, or `read_analyses`.

    Quantities that are sums over steps get an interval from how they vary from step to step (see
    docs/compare.md), where the analyses hold those sums: the whole model's always, tensors' with
    `tensor_steps`.

    Parameters
    ----------
    align : None where each run varies on its own; "step" or "fraction" to compare the same training steps, or
        the same fractions of training, in both
    confidence : of intervals, 0.5 <= confidence < 1

    Raises UsageError for parameters outside their ranges, for updates against gradients, for runs with no
    predictor in common, and where the same training steps are to be compared and runs span others.
    """
    check_comparison(align, confidence)
    check_same_kind(baseline.run, run.run)
    kind = baseline.run.kind
    specs = [p.predictor for p in baseline.total.predictors]
    specs = [s for s in specs if s in {p.predictor for p in run.total.predictors} and s != "zero"]
    if not specs:
        raise UsageError(f"{run.run.path}: no predictor in common with {baseline.run.path}")
    places = {tensor.name: at for at, tensor in enumerate(run.tensors)}
    pairs = [(at, places[t.name]) for at, t in enumerate(baseline.tensors) if t.name in places]
    names = {tensor.name for tensor in baseline.tensors}
    scopes: list[tuple[ScopeResult, ScopeResult]] = [(baseline.total, run.total)]
    scopes += [(baseline.tensors[a], run.tensors[b]) for a, b in pairs]

    best = [tuple(_best(scope, specs) for scope in pair) for pair in scopes]
    wanted = [
        Scope(tensors, (picked[0], picked[1]), pair)
        for tensors, picked, pair in zip([None, *pairs], best, scopes, strict=True)
    ]
    missing = _no_interval(baseline, run, specs)
    intervals: list[list[LogInterval | str]] = [[] for _ in scopes]
    if not missing[0]:
        of_steps = StepIntervals((baseline, run), specs, align=align, confidence=confidence)
        if not of_steps.enough:
            missing = ("too few rows to say how steps vary",) * 2
        else:
            from ...kernels.gram import one_blas_thread

            # Sums that overflow have no logarithm, and give no interval.
            with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
                intervals = [of_steps.of(scope) for scope in (wanted[:1] if missing[1] else wanted)]
                intervals += [[]] * (len(scopes) - len(intervals))
    compared = [
        _scope(
            name, pair, (picked[0], picked[1]), specs, (baseline.run.rows, run.run.rows),
            found or missing[name is not None], confidence, kind,
        )
        for name, pair, picked, found in zip(
            [None, *(baseline.tensors[a].name for a, _ in pairs)], scopes, best, intervals, strict=True
        )
    ]  # fmt: skip
    return Comparison(
        version=run.version,
        baseline=baseline,
        run=run,
        confidence=confidence,
        align=align,
        total=compared[0],
        tensors=_called_among_many(compared[1:], 1 - confidence),
        only_baseline=tuple(t.name for t in baseline.tensors if t.name not in places),
        only_run=tuple(t.name for t in run.tensors if t.name not in names),
        no_interval=missing,
        warnings=_warnings(baseline, run),
    )


def check_comparison(align: str | None, confidence: float) -> None:
    """Raise UsageError for parameters of `compare` outside their ranges."""
    if align is not None and align not in ALIGNMENTS:
        raise UsageError(f"align {align!r}: known are {', '.join(ALIGNMENTS)}")
    if not 0.5 <= confidence < 1:
        raise UsageError(f"confidence {confidence!r}: must be at least 0.5 and below 1")


def _best(scope: ScopeResult, specs: Sequence[str]) -> int | None:
    """Index in `specs` of the predictor with the least path length; None where all gradients are 0."""
    found = {p.predictor: p.path_length for p in scope.predictors}
    if scope.energy == 0:
        return None
    return min(range(len(specs)), key=lambda at: found[specs[at]])


def _no_interval(baseline: Analysis, run: Analysis, specs: Sequence[str]) -> tuple[str, str]:
    """Why the whole model's and why tensors' changes come without interval; "" where they have one."""
    for analysis in (baseline, run):
        held = analysis.steps
        if not all(spec in held.path_length and spec in held.product for spec in specs):
            why = f"{analysis.run.path} holds no per-step sums: write it with --format json"
            return why, why
    for analysis in (baseline, run):
        if analysis.tensor_steps is None:
            elsewhere = tensor_steps_elsewhere(analysis)
            told = elsewhere or "holds no per-step sums of tensors: write it with --tensor-steps"
            return "", f"{analysis.run.path}{':' if elsewhere else ''} {told}"
    return "", ""


def _called_among_many(scopes: Sequence[ScopeComparison], level: float) -> tuple[ScopeComparison, ...]:
    """Tensors, with the verdicts of each quantity that are left by Benjamini and Hochberg's procedure."""
    changes = [list(scope.changes) for scope in scopes]
    places: dict[str, list[tuple[int, int]]] = {}
    for row, of_scope in enumerate(changes):
        for at, change in enumerate(of_scope):
            if change.p is not None:
                places.setdefault(change.quantity, []).append((row, at))
    for found in places.values():
        called = benjamini_hochberg(np.array([changes[row][at].p for row, at in found]), level)
        for (row, at), kept in zip(found, called.tolist(), strict=True):
            if not kept:
                changes[row][at] = dataclasses.replace(changes[row][at], verdict=NO_CHANGE)
    return tuple(
        dataclasses.replace(scope, changes=tuple(of_scope))
        for scope, of_scope in zip(scopes, changes, strict=True)
    )


def _scope(
    name: str | None,
    pair: tuple[ScopeResult, ScopeResult],
    best: tuple[int | None, int | None],
    specs: Sequence[str],
    rows: tuple[int, int],
    intervals: Sequence[LogInterval | str] | str,
    confidence: float,
    kind: RowKind,
) -> ScopeComparison:
    """intervals : in the order of `StepIntervals.of`; or why there are none"""
    names = [None if at is None else specs[at] for at in best]
    found = {} if isinstance(intervals, str) else _by_quantity(intervals, specs, rows)
    none = intervals if isinstance(intervals, str) else ""
    changes = []
    for quantity in of_comparisons():
        if quantity.section.of_spectrum and not (pair[0].spectrum and pair[1].spectrum):
            continue
        for argument in _arguments(quantity, pair, specs):
            values = [_figure(quantity, *side, argument) for side in zip(pair, rows, names, strict=True)]
            subject = spelled(quantity.name, argument)
            of_noise = [_reference(quantity, *side, argument) for side in zip(pair, rows, names, strict=True)]
            interval = found.get(subject, none)
            if quantity.judged and quantity.section.of_spectrum:
                interval = OF_TENSORS
                if name is None:
                    interval = spectrum_interval(quantity, argument, pair, rows, confidence)
            if quantity.by_steps or isinstance(interval, LogInterval):
                change = _summed(subject, quantity, values[0], values[1], interval)
            elif quantity.stored is not None and quantity.stored.ends:
                change = _bounded(subject, quantity, argument, pair, values[0], values[1], interval)
            else:
                change = _plain(subject, quantity, pair, values[0], values[1], interval)
            why = kind.say(change.why)
            changes.append(dataclasses.replace(change, why=why, reference=(of_noise[0], of_noise[1])))
    parameters = pair[0].parameters, pair[1].parameters
    return ScopeComparison(name, parameters, (names[0], names[1]), tuple(changes))


def _by_quantity(
    intervals: Sequence[LogInterval | str], specs: Sequence[str], rows: tuple[int, int]
) -> dict[str, LogInterval | str]:
    """The intervals of a scope by what they are of. intervals : in the order of `StepIntervals.of`"""
    held = iter(intervals)
    energy = next(held)
    words = [q.name for q in QUANTITIES.values() if q.section is PREDICTOR and q.by_steps]
    found = {spelled(word, spec): next(held) for spec in specs for word in words}
    return {
        **found,
        spelled("kappa", BEST): next(held, ALL_ZERO),
        spelled("path_length", "zero"): energy,
        "grad_norm": energy if isinstance(energy, str) else energy.root(rows[0] / rows[1]),
    }


def _arguments(
    quantity: Quantity, pair: tuple[ScopeResult, ScopeResult], specs: Sequence[str]
) -> Sequence[str]:
    """What is compared of a quantity: of the predictors and epsilons that both runs have."""
    if quantity.section is PREDICTOR:
        zero = ["zero"] if quantity.of_zero is None else []
        return [*([BEST] if quantity.of_best else []), *zero, *specs]
    if quantity.argument == BY_EPSILON:
        ranks = [side.spectrum.rank if side.spectrum else () for side in pair]
        others = {rank.epsilon for rank in ranks[1]}
        return [repr(rank.epsilon) for rank in ranks[0] if rank.epsilon in others]
    return ROWS if quantity.argument else ("",)


def _figure(
    quantity: Quantity, scope: ScopeResult, rows: int, best: str | None, argument: str
) -> float | None:
    """best : the run's best predictor among those that both measured"""
    if argument == BEST:
        return None if best is None else quantity.figure(scope, best, rows)
    if argument == "zero" and quantity.name == "path_length":  # by its definition
        return scope.energy
    return quantity.figure(scope, argument, rows)


def _reference(
    quantity: Quantity, scope: ScopeResult, rows: int, best: str | None, argument: str
) -> float | None:
    """What independent noise has in the place of a figure of a run."""
    if not quantity.reference:
        return None
    return _figure(QUANTITIES[quantity.reference], scope, rows, best, argument)


def _summed(
    subject: str,
    quantity: Quantity,
    baseline: float | None,
    value: float | None,
    found: LogInterval | str,
) -> Change:
    """The change of a quantity that has an interval which holds noise. found : or why there is none"""
    if isinstance(found, str) or not baseline or not value:
        why = found if isinstance(found, str) else ""
        return _without_interval(subject, baseline, value, why)
    interval = _ratio_change(found.lower), _ratio_change(found.upper)
    change = dataclasses.replace(_change(subject, baseline, value), interval=interval, basis=STEPS, p=found.p)
    return dataclasses.replace(change, verdict=verdict_alone(change, quantity))


def verdict_alone(change: Change, quantity: Quantity) -> str:
    """What the interval of one figure says, whatever others there are."""
    lower, higher = quantity.verdicts
    if not change.beyond_noise:
        return NO_CHANGE
    return higher if (change.relative or 0.0) > 0 else lower


def _without_interval(subject: str, baseline: float | None, value: float | None, why: str) -> Change:
    """Figures that are equal do not differ, whatever noise there is; of others nothing can be said."""
    change = _change(subject, baseline, value)
    if baseline is not None and baseline == value:
        return dataclasses.replace(change, basis=EXACT, verdict=NO_CHANGE, why=why)
    return dataclasses.replace(change, why=why)


def _plain(
    subject: str,
    quantity: Quantity,
    pair: tuple[ScopeResult, ScopeResult],
    baseline: float | None,
    value: float | None,
    why: str,
) -> Change:
    """The change of a quantity that steps say nothing of. why : "" where none ever does"""
    why = why or NO_STEPS
    if all(_is_exact(quantity, side) for side in pair):
        return _without_interval(subject, baseline, value, why)
    return dataclasses.replace(_change(subject, baseline, value), why=why)


def _is_exact(quantity: Quantity, scope: ScopeResult) -> bool:
    if quantity.section.of_spectrum:
        return scope.spectrum is not None and scope.spectrum.method == "exact"
    return not scope.estimated


def _bounded(
    subject: str,
    quantity: Quantity,
    argument: str,
    pair: tuple[ScopeResult, ScopeResult],
    baseline: float | None,
    value: float | None,
    why: str,
) -> Change:
    """The change of a quantity that lies within bounds, such as a rank."""
    assert quantity.bounds is not None
    a, b = (quantity.bounds(side, argument) for side in pair)
    assert a is not None
    assert b is not None
    sure = all(side.spectrum is not None and side.spectrum.confidence == 1.0 for side in pair)
    if sure and a[0] == a[1] and b[0] == b[1]:
        return _without_interval(subject, baseline, value, why)
    interval = (b[0] / a[1] - 1, b[1] / a[0] - 1) if a[0] > 0 else None
    change = _change(subject, baseline, value)
    return dataclasses.replace(change, interval=interval, basis=BOUNDS, why=why)


def _change(quantity: str, baseline: float | None, value: float | None) -> Change:
    absolute = relative = None
    if baseline is not None and value is not None:
        absolute = value - baseline
        relative = absolute / baseline if baseline else 0.0 if value == baseline else None
    return Change(quantity, baseline, value, absolute, relative, None, None, None)


def _ratio_change(logarithm: float) -> float:
    """exp(x) - 1, within float64."""
    return math.expm1(min(logarithm, MOST_LOGARITHM))


def _repeats_steps(analysis: Analysis) -> bool:
    """Whether it mattered what was asked for of steps that repeat or go back."""
    return any(warning.code in (NOT_INCREASING, SETTLED, UNWRITTEN) for warning in analysis.warnings)


def _warnings(baseline: Analysis, run: Analysis) -> tuple[LogWarning, ...]:
    """What the runs were analyzed with, where that differs."""
    warnings = []
    spans = [x.run.kind.every for x in (baseline, run)]
    if spans[0] != spans[1]:
        told = " and ".join(
            f"{'differently many' if every is None else every} in {x.run.path}"
            for every, x in zip(spans, (baseline, run), strict=True)
        )
        warnings.append(
            LogWarning(
                "updates-differ",
                f"updates span training steps, {told}: kappas and ranks follow from that too",
            )
        )
    for word, held in (
        ("predictors", [[p.predictor for p in x.total.predictors] for x in (baseline, run)]),
        ("epsilons", [list(x.settings.epsilons) for x in (baseline, run)]),
    ):
        missing = [str(item) for item in (*held[0], *held[1]) if item not in held[0] or item not in held[1]]
        if missing:
            told = ", ".join(dict.fromkeys(missing))
            warnings.append(LogWarning("settings-differ", f"not in both runs, and left out: {word} {told}"))
    for word in ("nonfinite", "repeated", "truncate", "gradients", "tensors", "exclude"):
        mine, other = (getattr(x.settings, word) for x in (baseline, run))
        if mine != other and (word != "repeated" or any(map(_repeats_steps, (baseline, run)))):
            told = f"{word} {_told(mine)} in {baseline.run.path}, {_told(other)} in {run.run.path}"
            warnings.append(LogWarning("settings-differ", f"the runs were analyzed differently: {told}"))
    shapes = {tensor.name: tensor.shape for tensor in baseline.tensors}
    others = [
        f"{tensor.name} ({extents(shapes[tensor.name]) or SCALAR} and {extents(tensor.shape) or SCALAR})"
        for tensor in run.tensors
        if tensor.shape != shapes.get(tensor.name, tensor.shape)
    ]
    if others:
        more = f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
        told = f"compared by name, though of other shapes: {', '.join(others[:MOST_NAMES])}{more}"
        warnings.append(LogWarning("shapes-differ", told))
    return tuple(warnings)


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
