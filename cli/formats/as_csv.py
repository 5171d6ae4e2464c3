"""Results as CSV: a header and a row for every scope of every run, in full precision, nothing for null."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gradmf.gradlog import TensorResult
from gradmf.gradlog.results.quantities import BY_EPSILON, BY_PREDICTOR, BY_ROWS, QUANTITIES, ROWS, spelled
from gradmf.gradlog.sizes import extents

if TYPE_CHECKING:
    from gradmf.gradlog import (
        Advice,
        Analysis,
        Bounds,
        Change,
        Comparison,
        LogDescription,
        Schedule,
        ScopeResult,
        TensorDescription,
    )
    from gradmf.gradlog.results.quantities import Quantity

    from .rendering import Page, Views

Value = str | int | float | None


DESCRIPTION_COLUMNS = (
    "run", "tensor", "shape", "dtype", "parameters", "rows", "stored_rows", "chunks", "shards", "codecs",
    "reader", "expected_chunks", "absent_chunks", "stored_bytes", "raw_bytes",
)  # fmt: skip


COMPARISON_COLUMNS = (
    "baseline", "run", "scope", "tensor", "quantity", "baseline_value", "value", "absolute", "relative",
    "lower", "upper", "basis", "verdict", "baseline_reference", "reference",
)  # fmt: skip


SCOPE_COLUMNS = ("run", "scope", "tensor", "shape", "parameters", "rows")
"""Of analyses, before the quantities."""


WINDOW_COLUMNS = ("window", "first_row", "rows_of_window", "first_step", "last_step")
"""Behind them, with windows of training: nothing in the rows of whole runs."""


ADVICE_COLUMNS = (
    "run", "quantity", "scope", "tensor", "verdict", "decision", "confidence", "figure", "value", "lower",
    "upper", "basis", "weight", "source",
)  # fmt: skip


BOUNDS_COLUMNS = (
    "run", "guarantee", "hint", "formula", "value", "worst_formula", "worst", "ratio", "speaks_of",
    "in_expectation", "vacuous", "assumptions", "why",
)  # fmt: skip


CURVE_COLUMNS = ("run", "curve", "name", "at", "lower", "upper")


def analysis_columns(
    predictors: Iterable[str], epsilons: Iterable[float], *, subspace: bool = False, windows: bool = False
) -> tuple[str, ...]:
    """The columns of analyses with these predictors and epsilons, known before any is there."""
    quantities = _quantity_columns(predictors, epsilons, subspace=subspace)
    between = WINDOW_COLUMNS if windows else ()
    return (*SCOPE_COLUMNS, *between, *(name for name, _ in quantities))


def _quantity_columns(
    predictors: Iterable[str], epsilons: Iterable[float], *, subspace: bool
) -> Iterator[tuple[str, Callable[[ScopeResult, int], Value]]]:
    """Each column with what stands in it, by scope and rows of the run.

    Quantities that follow each other in the table and have the same kind of argument stand together, argument
    by argument.
    """
    arguments = {
        "": [""],
        BY_PREDICTOR: list(predictors),
        BY_EPSILON: [repr(epsilon) for epsilon in epsilons],
        BY_ROWS: ROWS if subspace else (),
    }
    shown = [quantity for quantity in QUANTITIES.values() if quantity.column]
    for kind, group in groupby(shown, lambda quantity: quantity.argument):
        together = list(group)
        for argument in arguments[kind]:
            for quantity in together:
                yield from _columns_of(quantity, argument)


def _columns_of(
    quantity: Quantity, argument: str
) -> Iterator[tuple[str, Callable[[ScopeResult, int], Value]]]:
    """The figure, its bounds where it can have some, and what stands beside it."""

    def figure(scope: ScopeResult, rows: int) -> Value:
        return quantity.figure(scope, argument, rows)

    def end(scope: ScopeResult, _: int, *, at: int) -> Value:
        ends = quantity.bounds(scope, argument) if quantity.bounds else None
        return None if ends is None else ends[at]

    def beside(scope: ScopeResult, _: int, *, name: str) -> Value:
        value: Value = getattr(quantity.section.find(scope, argument), name, None)
        return value

    yield spelled(quantity.name, argument), figure
    if quantity.bounds is not None:
        for at, suffix in enumerate(("_lower", "_upper")):
            yield spelled(f"{quantity.name}{suffix}", argument), partial(end, at=at)
    for name in quantity.beside:
        yield name, partial(beside, name=name)


def write_csv(results: Iterable[Any], views: Views[Any], page: Page) -> Iterator[str]:
    """The rows of all results, below one header."""
    assert views.rows is not None
    return views.rows(results, page.columns)


def write_analyses(analyses: Iterable[Analysis], columns: Sequence[str] = ()) -> Iterator[str]:
    """Pieces of CSV: for every analysis a row for the total and one for every tensor."""
    tables = (
        [_scope_row(analysis, scope) for scope in (analysis.total, *analysis.tensors)]
        + _window_rows(analysis)
        for analysis in analyses
    )
    yield from write_rows(tables, columns)


def _window_rows(analysis: Analysis) -> list[dict[str, Value]]:
    """A row of each scope in each window of training, with the figures that windows have."""
    windows = analysis.windows
    if windows is None:
        return []
    scopes = [(analysis.total, windows.total), *zip(analysis.tensors, windows.tensors, strict=True)]
    spans = zip(windows.rows.tolist(), windows.step.tolist(), strict=True)
    rows = []
    for number, ((first, stop), (first_step, last_step)) in enumerate(spans):
        where = (number, first, stop - first, first_step, last_step)
        for scope, held in scopes:
            named = {
                spelled(name, spec): values
                for name, by_predictor in (
                    ("kappa", held.kappa),
                    ("scaled_kappa", held.scaled_kappa),
                    ("kappa_reference", held.reference),
                )
                for spec, values in by_predictor.items()
            }
            for name, by_epsilon in (("rank", held.rank), ("rank_reference", held.rank_reference)):
                named |= {spelled(name, repr(epsilon)): values for epsilon, values in by_epsilon.items()}
            found = {name: float(values[number]) for name, values in named.items()}
            # Everything else is of the whole run.
            row = dict.fromkeys(_scope_row(analysis, scope)) | _scope_words(analysis, scope)
            rows.append(
                row | {"energy": float(held.energy[number])} | found
                | dict(zip(WINDOW_COLUMNS, where, strict=True))
            )  # fmt: skip
    return rows


def write_descriptions(logs: Iterable[LogDescription], columns: Sequence[str] = ()) -> Iterator[str]:
    """Pieces of CSV: a row for every tensor of every log."""
    yield from write_rows(([_tensor_row(log, tensor) for tensor in log.tensors] for log in logs), columns)


def write_comparisons(comparisons: Iterable[Comparison], columns: Sequence[str] = ()) -> Iterator[str]:
    """Pieces of CSV: for every comparison a row for every quantity of the total and of every tensor."""
    tables = (
        [
            _change_row(comparison, scope.name, change)
            for scope in (comparison.total, *comparison.tensors)
            for change in scope.changes
        ]
        + _relation_rows(comparison)
        for comparison in comparisons
    )
    yield from write_rows(tables, columns)


def _relation_rows(comparison: Comparison) -> list[dict[str, Value]]:
    """How the runs move relative to each other; one value of both."""
    relation = comparison.relation
    if relation is None:
        return []
    rows = []
    for scope in (relation.total, *relation.tensors):
        values = {
            "cosine": scope.cosine,
            "overlap[gradients]": scope.gradients,
            "overlap[increments]": scope.increments,
        }
        for quantity, value in values.items():
            rows.append({**_comparison_row(comparison, scope.name, quantity), "value": value})
    return rows


def write_advice(advices: Iterable[Advice], columns: Sequence[str] = ()) -> Iterator[str]:
    """Pieces of CSV: for every decision a row for each of its figures, or one without any."""
    yield from write_rows(map(_advice_rows, advices), columns)


def _advice_rows(advice: Advice) -> list[dict[str, Value]]:
    rows = []
    for decision in advice.decisions:
        row: dict[str, Value] = {
            "run": advice.run.path,
            "quantity": decision.quantity,
            "scope": "total" if decision.scope is None else "tensor",
            "tensor": decision.scope,
            "verdict": decision.verdict,
            "decision": decision.text,
            "confidence": decision.confidence,
            **dict.fromkeys(("figure", "value", "lower", "upper", "basis")),
            "weight": decision.weight,
            "source": decision.source,
        }
        figures: list[dict[str, Value]] = [
            {"figure": f.name, "value": f.value, "lower": f.lower, "upper": f.upper, "basis": f.basis}
            for f in decision.figures
        ]
        rows += [{**row, **figure} for figure in figures] or [row]
    return rows


def write_schedule(schedule: Schedule) -> Iterator[str]:
    """Pieces of CSV: a row a logged step. refined_lr peaks where the logged learning rate does"""
    logged = schedule.logged
    peak = None if logged is None else float(logged.max())
    rows: list[dict[str, Value]] = [
        {
            "step": int(schedule.step[at]),
            "grad_norm": float(schedule.grad_norm[at]),
            "smoothed": float(schedule.smoothed[at]),
            "refined": float(schedule.refined[at]),
            "lr": None if logged is None else float(logged[at]),
            "refined_lr": None if peak is None else peak * float(schedule.refined[at]),
        }
        for at in range(schedule.step.size)
    ]
    yield from write_rows([rows])


def write_bounds(found: Iterable[Bounds], columns: Sequence[str] = ()) -> Iterator[str]:
    """Pieces of CSV: for every run a row for every guarantee."""
    tables = (
        [
            {
                "run": bounds.analysis.run.path,
                "guarantee": row.name,
                "hint": row.hint or None,
                "formula": row.formula,
                "value": row.value,
                "worst_formula": row.worst_formula,
                "worst": row.worst,
                "ratio": row.ratio,
                "speaks_of": row.speaks_of,
                "in_expectation": str(row.in_expectation).lower(),
                "vacuous": str(row.vacuous).lower(),
                "assumptions": "; ".join(row.assumptions),
                "why": row.why or None,
            }
            for row in bounds.rows
        ]
        for bounds in found
    )
    yield from write_rows(tables, columns)


def write_curves(found: Iterable[Bounds], columns: Sequence[str] = ()) -> Iterator[str]:
    """Pieces of CSV: bounds and other guarantees by training step, and the residual by rank."""
    yield from write_rows(map(_curve_rows, found), columns)


def _curve_rows(bounds: Bounds) -> list[dict[str, Value]]:
    run, steps = bounds.analysis.run.path, bounds.analysis.steps.step.tolist()
    rows: list[dict[str, Value]] = [
        {"run": run, "curve": "anytime", "name": spec, "at": step, "lower": value, "upper": value}
        for spec, values in {**bounds.anytime.bounds, **bounds.anytime.guarantees}.items()
        for step, value in zip(steps, values.tolist(), strict=True)
    ]
    curve = bounds.residual
    if curve is not None:
        rows += [
            {"run": run, "curve": "residual", "name": None, "at": rank, "lower": lower, "upper": upper}
            for rank, lower, upper in zip(
                curve.rank.tolist(), curve.lower.tolist(), curve.upper.tolist(), strict=True
            )
        ]
    return rows


def _change_row(comparison: Comparison, tensor: str | None, change: Change) -> dict[str, Value]:
    lower, upper = change.interval or (None, None)
    return {
        **_comparison_row(comparison, tensor, change.quantity),
        "baseline_value": change.baseline,
        "value": change.value,
        "absolute": change.absolute,
        "relative": change.relative,
        "lower": lower,
        "upper": upper,
        "basis": change.basis,
        "verdict": change.verdict,
        "baseline_reference": change.reference[0],
        "reference": change.reference[1],
    }


def _comparison_row(comparison: Comparison, tensor: str | None, quantity: str) -> dict[str, Value]:
    """A row without values."""
    return {
        **dict.fromkeys(COMPARISON_COLUMNS),
        "baseline": comparison.baseline.run.path,
        "run": comparison.run.run.path,
        "scope": "total" if tensor is None else "tensor",
        "tensor": tensor,
        "quantity": quantity,
    }


def _scope_words(analysis: Analysis, scope: ScopeResult) -> dict[str, Value]:
    """Which scope a row is of."""
    tensor = scope if isinstance(scope, TensorResult) else None
    return {
        "run": analysis.run.path,
        "scope": "total" if tensor is None else "tensor",
        "tensor": None if tensor is None else tensor.name,
        "shape": None if tensor is None else extents(tensor.shape),
        "parameters": scope.parameters,
        "rows": analysis.run.rows,
    }


def _scope_row(analysis: Analysis, scope: ScopeResult) -> dict[str, Value]:
    row = _scope_words(analysis, scope)
    if analysis.windows is not None:
        row |= dict.fromkeys(WINDOW_COLUMNS)
    # The columns depend on the settings only, so that all runs of a command share them.
    predictors = [result.predictor for result in scope.predictors]
    epsilons = analysis.settings.epsilons
    columns = _quantity_columns(predictors, epsilons, subspace=scope.subspace is not None)
    return {**row, **{name: value(scope, analysis.run.rows) for name, value in columns}}


def _tensor_row(log: LogDescription, tensor: TensorDescription) -> dict[str, Value]:
    return {
        "run": log.path,
        "tensor": tensor.name,
        "shape": extents(tensor.shape),
        "dtype": tensor.dtype,
        "parameters": tensor.parameters,
        "rows": log.rows,
        "stored_rows": tensor.rows,
        "chunks": extents(tensor.chunks),
        "shards": None if tensor.shards is None else extents(tensor.shards),
        "codecs": " ".join(tensor.codecs),
        "reader": tensor.reader,
        "expected_chunks": tensor.expected_chunks,
        "absent_chunks": tensor.absent_chunks,
        "stored_bytes": tensor.stored_bytes,
        "raw_bytes": tensor.raw_bytes,
    }


def write_rows(tables: Iterable[list[dict[str, Value]]], columns: Sequence[str] = ()) -> Iterator[str]:
    """The rows of each table, and before the first a header. columns : which, in order; all where empty"""
    header_written = False
    for rows in tables:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            names = columns or tuple(row)
            if not header_written:
                writer.writerow(names)
                header_written = True
            writer.writerow([_cell(row[name]) for name in names])
        yield text.getvalue()


def _cell(value: Value) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)
