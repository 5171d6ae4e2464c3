"""The report of advice: what to change, then what was in order and what cannot be said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .figures import NOTHING, count, counted, run_size
from .report import Column, Fold, Report, Table

if TYPE_CHECKING:
    from ..advice import Advice, Decision, Figure

MODEL = "model"
MOST_ROWS = 14
MOST_OF_QUANTITY = 4
MOST_REASONS = 4
SHORT = {
    "debiased_kappa": "scaled",
    "slow_share": "share",
    "signal_share": "signal",
    "level_at_end": "level left",
    "bound_ratio": "bound x",
    "largest_over_noise": "x noise",
}


def advice_report(
    advice: Advice, *, quiet: bool = False, top: int | None = None, most_reasons: int | None = MOST_REASONS
) -> Report:
    """All that a person sees. top : decisions that a terminal shows, 0 for all; None for some of each kind

    most_reasons : why something cannot be said, None for all
    """
    run = advice.run
    groups = _groups([d for d in advice.decisions if d.verdict in ("change", "note")])
    tables = (_table(groups, top, quiet=quiet),) if groups else ()
    return Report(
        heading=run.path,
        facts=(run_size(run.rows, advice.steps or (), run.tensors, run.parameters),),
        tables=tables,
        words=(*_in_order(advice, changes=bool(groups)), *_open(advice, most_reasons)),
    )


def _groups(decisions: Sequence[Decision]) -> list[list[Decision]]:
    """Decisions that say the same of one quantity; what the whole model says stands for its tensors."""
    grouped: dict[tuple[str, str], list[Decision]] = {}
    for decision in decisions:
        grouped.setdefault((decision.quantity, decision.text), []).append(decision)
    found = []
    for group in grouped.values():
        whole = [decision for decision in group if decision.scope is None]
        found.append(whole or group)
    return found


def _table(groups: Sequence[Sequence[Decision]], top: int | None, *, quiet: bool) -> Table:
    before, behind = _some_of_each(groups) if top is None else (groups[:top], groups[top:])
    shown = [*before, *behind]
    first = [group[0] for group in shown]
    figures = [_figure(decision) for decision in first]
    columns: list[tuple[Column, list[str]]] = [
        (Column("about", "left"), [decision.quantity for decision in first]),
        (Column("where", "left", shrinks=True), [_where(group) for group in shown]),
        (Column("decision", "left"), [decision.text for decision in first]),
        (Column("rests on", "left"), [_figure_text(figure) for figure in figures]),
        (Column("range", "left", dim=True, yields=3), [_range(figure) for figure in figures]),
        (Column("sure", "left"), [decision.confidence for decision in first]),
        (Column("source", "left", dim=True, yields=4), [_names(decision.source) for decision in first]),
    ]
    fold = None
    if behind and top != 0:
        told = Counter(decision.quantity for group in behind for decision in group)
        more = ", ".join(f"{count(n)} more on {name}" for name, n in told.items())
        fold = Fold(len(before), f"and {more} (--top 0 shows all)")
    note = "certain: counted; clear: 95% interval, all sampled rows, or past noise; weak: the figure"
    return Table.of("Decisions", columns, note="" if quiet else note, fold=fold)


def _some_of_each(
    groups: Sequence[Sequence[Decision]],
) -> tuple[list[Sequence[Decision]], list[Sequence[Decision]]]:
    """The weightiest, not too many of one quantity, and the others."""
    before: list[Sequence[Decision]] = []
    behind: list[Sequence[Decision]] = []
    of_quantity: Counter[str] = Counter()
    for group in groups:
        of_quantity[group[0].quantity] += 1
        fits = len(before) < MOST_ROWS and of_quantity[group[0].quantity] <= MOST_OF_QUANTITY
        (before if fits else behind).append(group)
    return before, behind


def _names(source: str) -> str:
    """Papers by name alone: machine formats and the documentation have their numbers."""
    return "; ".join(paper.partition(", arXiv")[0] for paper in source.split("; "))


def _where(group: Sequence[Decision]) -> str:
    if group[0].scope is None:
        return MODEL
    return group[0].scope if len(group) == 1 else counted(len(group), "tensor")


def _figure(decision: Decision) -> Figure | None:
    return decision.figures[0] if decision.figures else None


def _figure_text(figure: Figure | None) -> str:
    if figure is None:
        return NOTHING
    name = figure.name.partition("[")[0]
    return f"{SHORT.get(name, name)} {_number(figure.value)}"


def _range(figure: Figure | None) -> str:
    if figure is not None and figure.basis == "noise":
        return f"noise to {_number(figure.lower if figure.upper is None else figure.upper)}"
    if figure is None or figure.lower is None or figure.upper is None:
        return NOTHING
    return f"{_number(figure.lower)} to {_number(figure.upper)}"


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NOTHING
    whole = value == int(value) and abs(value) < 1e7
    return count(int(value)) if whole else f"{value:.3g}"


def _in_order(advice: Advice, *, changes: bool) -> list[str]:
    """One line: how many scopes of each quantity were found in order."""
    kept = Counter(decision.quantity for decision in advice.of("keep"))
    if not kept:
        return []
    told = ", ".join(f"{name} {count(kept[name])}" for name in advice.checked if kept[name])
    opening = "Checked and nothing to change" if changes else "Nothing to change"
    return [f"{opening}, by number of scopes: {told}."]


def _open(advice: Advice, most: int | None) -> list[str]:
    """A line for each reason why something cannot be said."""
    reasons: dict[tuple[str, str], int] = {}
    for decision in advice.of("unknown"):
        key = decision.text, decision.quantity
        reasons[key] = reasons.get(key, 0) + 1
    by_text: dict[str, list[str]] = {}
    for (text, name), number in reasons.items():
        by_text.setdefault(text, []).append(name if number == 1 else f"{name} ({count(number)})")
    lines = [f"Cannot be said: {', '.join(names)}: {text}." for text, names in by_text.items()]
    if most is not None and len(lines) > most:
        rest = len(lines) - most
        lines = [*lines[:most], f"And {counted(rest, 'other reason')}: --format json has them."]
    return lines
