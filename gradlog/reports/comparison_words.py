"""What a comparison means, in words: which run is more predictable, and whether that is noise."""

from __future__ import annotations

import math
from string import ascii_uppercase
from typing import TYPE_CHECKING

from .changes import change_text, interval_text
from .figures import count, counted, percent

if TYPE_CHECKING:
    from ..comparisons.comparison import Change, Comparison


def letter(number: int) -> str:
    """A for the baseline, B for the first run, Z27 for what is beyond the alphabet."""
    return ascii_uppercase[number] if number < len(ascii_uppercase) else f"Z{number + 1}"


def explain_comparison(comparison: Comparison, number: int) -> tuple[str, ...]:
    """Which run is more predictable, whether that is noise, and what to mind."""
    a, b, kind = letter(0), letter(number), comparison.baseline.run.kind
    change = comparison.total.change("kappa[best]")
    assert change is not None
    zero = [run for run, kappa in ((a, change.baseline), (b, change.value)) if kappa is None]
    if zero:
        return (f"All {kind.name} of {' and '.join(zero)} are zero: there is nothing to compare.",)
    lines = [_more_predictable(comparison, change, a, b), _noise(comparison, change)]
    if not comparison.no_interval[1] and len(comparison.tensors) > 1:
        lines.append(_in_tensors(comparison, a, b))
    if comparison.no_interval[1] and not comparison.no_interval[0]:
        lines.append(f"Tensors come without interval: {comparison.no_interval[1]}.")
    rows = comparison.baseline.run.rows, comparison.run.run.rows
    if rows[0] != rows[1]:
        lines.append(
            f"{a} has {counted(rows[0], 'row')} and {b} {count(rows[1])}: path lengths and ranks grow "
            "with rows; compare kappas."
        )
    if not comparison.no_interval[0]:
        lines.append("One run is one seed: other seeds may differ more than steps do.")
    return tuple(lines)


def _more_predictable(comparison: Comparison, change: Change, a: str, b: str) -> str:
    first, second = comparison.total.best
    noun = comparison.baseline.run.kind.noun
    told = (
        f"{a}'s best predictor, {first}, leaves {percent(change.baseline)} of its {noun} energy; "
        f"{b}'s, {second}, {percent(change.value)}."
    )
    if not _predictable(change):
        return f"Neither {a} nor {b} is predictable: {told} Predicting nothing leaves 100%."
    if change.verdict == "~" and change.relative == 0:
        return f"{a} and {b} are equally predictable: {told}"
    if not change.significant:
        return told
    more, less = (b, a) if change.verdict == "better" else (a, b)
    return f"{more} is more predictable than {less}: {told}"


def _predictable(change: Change) -> bool:
    """Whether a predictor leaves less than predicting nothing does in one of the runs; by kappa[best]."""
    return any(kappa is not None and kappa < 1 for kappa in (change.baseline, change.value))


def _in_tensors(comparison: Comparison, a: str, b: str) -> str:
    """In how many tensors each run is more predictable, and in which most."""
    found = [(scope.name, scope.change("kappa[best]")) for scope in comparison.tensors]
    changes = [(name, change) for name, change in found if change is not None and change.verdict is not None]
    if not changes:
        return "Of no tensor can that be said."
    able = [(name, change) for name, change in changes if _predictable(change)]
    told = []
    for run, verdict in ((a, "worse"), (b, "better")):
        moved = [(name, change) for name, change in able if change.verdict == verdict]
        if moved:
            name, most = max(moved, key=lambda item: abs(math.log1p(item[1].relative or 0.0)))
            told.append((len(moved), f"{run} in {len(moved)}, most in {name} ({change_text(most)})"))
    total = counted(len(changes), "tensor")
    chance = _by_chance(comparison, sum(change.p is not None for _, change in changes))
    if not able:
        return f"Predictable in neither run: each of {total}."
    calm = sum(change.verdict == "~" for _, change in able)
    if calm == len(changes):
        return f"Within noise in each of {total}{chance}."
    words = [text for _, text in sorted(told, reverse=True)]
    words[:1] = [f"more predictable: {text}" for text in words[:1]]
    words += [f"within noise in {calm}"] * (calm > 0)
    neither = len(changes) - len(able)
    words += [f"predictable in neither run: {neither}"] * (neither > 0)
    return f"Of {total}, {'; '.join(words)}{chance}."


def _by_chance(comparison: Comparison, judged: int) -> str:
    """How many of the tensors noise alone would call, and what is done about it."""
    if judged < 2:
        return ""
    level = 1 - comparison.confidence
    return (
        f" (chance would call {level * judged:.2g} one by one, by Benjamini-Hochberg {100 * level:.3g}% of "
        "those called)"
    )


def _noise(comparison: Comparison, change: Change) -> str:
    if comparison.no_interval[0]:
        return f"Whether that is noise cannot be said: {comparison.no_interval[0]}."
    if change.verdict is None:
        few = f"too few steps have {comparison.baseline.run.kind.name}"
        return f"Whether that is noise cannot be said: {change.why or few}."
    if change.relative == 0:
        return "There is no difference to explain."
    level = f"{100 * comparison.confidence:g}%"
    told = f"kappa[best] {change_text(change)}, {level} interval {interval_text(change)}"
    if change.significant:
        return f"More than the noise between steps: {told}."
    return f"Any difference is within the noise between steps: {told}."
