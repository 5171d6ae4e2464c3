"""The report of a comparison: the whole model first, then the tensors that changed most."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .changes import change_text, interval_text, three_digits
from .comparison_words import explain_comparison, letter
from .figures import NOTHING, count, counted, numbers, run_size
from .relation_report import cosine_over_training, relation_table
from .report import MOST_ROWS, Column, Fold, Report, Table

if TYPE_CHECKING:
    from ..comparisons.comparison import Change, Comparison, ScopeComparison
    from ..results.result import Analysis

MOST_NAMES = 6
HEADLINE = "kappa[best]"


def comparison_report(
    comparison: Comparison, number: int = 1, *, quiet: bool = False, top: int | None = None
) -> Report:
    """All that a person sees. number : of the run, 1 for the first one after the baseline

    top : tensors that a terminal shows, 0 for all of them
    """
    tables = [_total(comparison, number)]
    series = None
    if comparison.relation is not None:
        parameters, kind = comparison.baseline.run.parameters, comparison.baseline.run.kind
        tables.append(relation_table(comparison.relation, parameters, kind, number))
        series = cosine_over_training(comparison.relation, kind, number)
    if comparison.tensors:
        tables.append(_tensors(comparison, number, MOST_ROWS if top is None else top))
    words = [*_unmatched(comparison, number)]
    if not quiet:
        words += explain_comparison(comparison, number)
    return Report(
        heading=f"{letter(number)} against {letter(0)}",
        facts=(_fact(comparison.baseline, 0), _fact(comparison.run, number)),
        tables=tuple(tables),
        series=() if series is None else (series,),
        words=tuple(words),
    )


def _fact(analysis: Analysis, number: int) -> str:
    run = analysis.run
    size = run_size(run.rows, analysis.steps.step.tolist(), run.tensors, run.parameters)
    return f"{letter(number)}  {run.path}: {size}"


def _total(comparison: Comparison, number: int) -> Table:
    shown = [change for change in comparison.total.changes if _is_shown(comparison.total, change)]
    texts = [_values(change) for change in shown]
    level = f"{100 * comparison.confidence:g}% interval"
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("quantity", "left", shrinks=True), [change.quantity for change in shown]),
        (Column(letter(0), "decimal"), [text[0] for text in texts]),
        (Column(letter(number), "decimal"), [text[1] for text in texts]),
        (Column("noise", dim=True, yields=1), [_noise(change) for change in shown]),
        (Column("change"), [change_text(change) for change in shown]),
        (Column(level, dim=True, yields=2), [interval_text(change) for change in shown]),
        (Column("verdict", "left"), [change.verdict or NOTHING for change in shown]),
    ]
    return Table.of("Whole model", columns, note=_notes(comparison, number))


def _is_shown(scope: ScopeComparison, change: Change) -> bool:
    """Path lengths are kappas times the energy, which the norm tells: the best predictors' stand there."""
    if not change.quantity.startswith("path_length"):
        return True
    return change.quantity in {f"path_length[{spec}]" for spec in scope.best}


def _values(change: Change) -> list[str]:
    values = change.baseline, change.value
    if change.quantity.startswith("rank["):
        return [NOTHING if value is None else count(int(value)) for value in values]
    return numbers(values)


def _noise(change: Change) -> str:
    """What independent noise has in the figure's place: in both runs, once where that is the same."""
    whole = change.quantity.startswith("rank[")
    texts = [
        NOTHING if value is None else count(int(value)) if whole else three_digits(value)
        for value in change.reference
    ]
    return ", ".join(dict.fromkeys(texts))


def _notes(comparison: Comparison, number: int) -> str:
    first, second = comparison.total.best
    notes = []
    if first is not None and second is not None:
        same = first == second
        which = f"{first} in both" if same else f"{first} in {letter(0)}, {second} in {letter(number)}"
        notes.append(f"best: {which}")
    notes.append("better: more predictable (lower kappa)")
    notes.append("~: within noise")
    if any(value is not None for c in comparison.total.changes for value in c.reference):
        notes.append("noise: of independent rows of these norms")
    if any("x" in change_text(c) or "/" in change_text(c) for c in comparison.total.changes):
        notes.append("x12: 12 times, /12: a 12th")
    if not comparison.no_interval[0]:
        notes += _reasons(comparison.total)
    return "; ".join(notes)


def _reasons(scope: ScopeComparison) -> list[str]:
    """Why some quantities have no interval."""
    found = dict.fromkeys(change.why for change in scope.changes if change.why and change.verdict is None)
    return [f"no interval: {', '.join(found)}"] if found else []


def _tensors(comparison: Comparison, number: int, top: int) -> Table:
    shown = sorted(comparison.tensors, key=_weight, reverse=True)
    kappas = [scope.change(HEADLINE) for scope in shown]
    norms = [scope.change("grad_norm") for scope in shown]
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("tensor", "left", shrinks=True), [str(scope.name) for scope in shown]),
        (Column(f"kappa {letter(0)}", "decimal"), numbers([c.baseline if c else None for c in kappas])),
        (Column(f"kappa {letter(number)}", "decimal"), numbers([c.value if c else None for c in kappas])),
        (Column("change"), [change_text(c) if c else NOTHING for c in kappas]),
        (
            Column(f"{100 * comparison.confidence:g}% interval", dim=True, yields=2),
            [interval_text(c) if c else NOTHING for c in kappas],
        ),
        (Column("verdict", "left"), [(c.verdict if c else None) or NOTHING for c in kappas]),
        (Column(f"best {letter(0)}", "left", dim=True, yields=5), [s.best[0] or NOTHING for s in shown]),
        (Column(f"best {letter(number)}", "left", dim=True, yields=5), [s.best[1] or NOTHING for s in shown]),
    ]
    middle = _middle_rank(comparison)
    if middle is not None:
        of_rank = [scope.change(middle) for scope in shown]
        title = f"{middle.replace('rank[', 'r*(').replace(']', ')')} {letter(0)} to {letter(number)}"
        columns.append((Column(title, yields=3), [_pair(c) for c in of_rank]))
    columns.append((Column("norm change", yields=4), [_beyond_noise(c) for c in norms]))
    noun = counted(len(comparison.tensors), "tensor") + (" in both" if _partial(comparison) else "")
    fold = Fold(top, _rest(shown[top:])) if top and len(shown) > top else None
    notes = []
    if len(comparison.tensors) > 1 and not comparison.no_interval[1]:
        notes.append("verdicts over all tensors by Benjamini-Hochberg, intervals of each alone")
    return Table.of(f"Best kappa of {noun}, by change", columns, note="; ".join(notes), fold=fold)


def _beyond_noise(change: Change | None) -> str:
    return NOTHING if change is None else "~" if change.verdict == "~" else change_text(change)


def _weight(scope: ScopeComparison) -> tuple[bool, float]:
    """Significant changes first, each by size."""
    change = scope.change(HEADLINE)
    if change is None or not change.baseline or not change.value:
        return False, 0.0
    return change.significant, abs(math.log(change.value / change.baseline))


def _rest(scopes: Sequence[ScopeComparison]) -> str:
    verdicts: Counter[str] = Counter()
    for scope in scopes:
        change = scope.change(HEADLINE)
        verdicts[(change.verdict if change else None) or "without verdict"] += 1
    told = ", ".join(f"{count(number)} {verdict}" for verdict, number in verdicts.most_common())
    return f"and {count(len(scopes))} more: {told} (--top 0 shows all)"


def _middle_rank(comparison: Comparison) -> str | None:
    ranks = [c.quantity for c in comparison.total.changes if c.quantity.startswith("rank[")]
    ranks.sort(key=lambda quantity: float(quantity[5:-1]))
    return ranks[len(ranks) // 2] if ranks else None


def _pair(change: Change | None) -> str:
    if change is None or change.baseline is None or change.value is None:
        return NOTHING
    return f"{count(int(change.baseline))} to {count(int(change.value))}"


def _partial(comparison: Comparison) -> bool:
    return bool(comparison.only_baseline or comparison.only_run)


def _unmatched(comparison: Comparison, number: int) -> list[str]:
    lines = []
    for names, run in ((comparison.only_baseline, 0), (comparison.only_run, number)):
        if names:
            more = f" and {count(len(names) - MOST_NAMES)} more" if len(names) > MOST_NAMES else ""
            told = ", ".join(names[:MOST_NAMES]) + more
            lines.append(f"Only in {letter(run)}, {counted(len(names), 'tensor')}: {told}.")
    if lines:
        lines.append("Whole-model figures count them too; --tensor and --exclude leave them out.")
    return lines
