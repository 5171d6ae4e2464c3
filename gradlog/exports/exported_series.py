"""What is exported of an analysis: series of one figure each, by run, by window and by step.

Their names are those of the table of quantities, and of the fields of `Steps` and `TensorSteps` for what only
steps have; their values are those of JSON, to the last bit.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from ..results.quantities import (
    BY_EPSILON,
    BY_PREDICTOR,
    BY_ROWS,
    FOUND,
    PREDICTOR,
    QUANTITIES,
    ROWS,
    SUBSPACE,
    Quantity,
    stored_in,
)
from ..results.reasons import tensor_steps_elsewhere
from ..results.result import Analysis, ScopeResult, Steps
from ..results.search_result import ScopeSearch
from ..results.windows import ScopeWindows

Doubles = NDArray[np.float64]
Wholes = NDArray[np.int64]

RUN, WINDOW, STEP = "run", "window", "step"
"""What each value of a series is of."""
TOTAL, TENSOR, GROUP = "total", "tensor", "group"


@dataclass(frozen=True, eq=False)
class Spans:
    """The rows that each of n values is of.

    per : RUN, WINDOW or STEP
    rows : (n, 2) int64, first and last row
    steps : (n, 2) int64, their training steps; None where the result doesn't hold them
    """

    per: str
    rows: Wholes
    steps: Wholes | None


@dataclass(frozen=True, eq=False)
class Series:
    """One figure of one scope over spans of rows.

    scope : TOTAL, TENSOR or GROUP; name : of the tensor or group, None of the total
    quantity, argument : as of the table of quantities; "" for no argument
    values : (n,) float64; NaN where there is no number
    lower, upper : (n,) float64, of what is not exact and has an interval; None elsewhere, NaN for an open end
    """

    spans: Spans
    scope: str
    name: str | None
    quantity: str
    argument: str
    values: Doubles
    lower: Doubles | None = None
    upper: Doubles | None = None


def series_of(analysis: Analysis) -> Iterator[Series]:
    """All series of an analysis: of the run, then by window, then by step."""
    yield from _of_run(analysis)
    yield from _of_windows(analysis)
    yield from _of_subspace_windows(analysis)
    yield from _of_steps(analysis)
    yield from _of_tensor_steps(analysis)


def left_out(analysis: Analysis) -> list[str]:
    """What the analysis doesn't hold, or holds as no number, each with why; nouns are to be filled in."""
    return list(_left_out(analysis))


def _spans(per: str, ends: Wholes, analysis: Analysis) -> Spans:
    """Of these rows, (n, 2) first and last, with their training steps where the analysis holds them."""
    step = analysis.steps.step
    return Spans(per, ends, step[ends] if step.size == analysis.run.rows else None)


# Of the run.


def _of_run(analysis: Analysis) -> Iterator[Series]:
    spans = _spans(RUN, np.array([[0, analysis.run.rows - 1]], dtype=np.int64), analysis)
    for scope, name, figures in _scopes(analysis):
        for quantity in QUANTITIES.values():
            for argument in _arguments(quantity, figures):
                found = _figure(spans, scope, name, quantity, argument, figures)
                if found is not None:
                    yield found
    if analysis.search is not None:
        for searched in (analysis.search.total, *analysis.search.tensors):
            yield from _of_search(spans, searched)


def _scopes(analysis: Analysis) -> Iterator[tuple[str, str | None, ScopeResult]]:
    yield TOTAL, None, analysis.total
    yield from ((TENSOR, tensor.name, tensor) for tensor in analysis.tensors)
    yield from ((GROUP, group.name, group) for group in analysis.groups)


def _arguments(quantity: Quantity, scope: ScopeResult) -> Iterable[str]:
    """What of a scope can stand in the brackets of a quantity."""
    ranks = () if scope.spectrum is None else scope.spectrum.rank
    return {
        "": ("",),
        BY_PREDICTOR: [predictor.predictor for predictor in scope.predictors],
        BY_EPSILON: [repr(rank.epsilon) for rank in ranks],
        BY_ROWS: ROWS,
    }.get(quantity.argument, ())


def _figure(
    spans: Spans, scope: str, name: str | None, quantity: Quantity, argument: str, figures: ScopeResult
) -> Series | None:
    """None where nothing is known."""
    rows = int(spans.rows[0, 1]) + 1
    value = _number(quantity.figure(figures, argument, rows))
    reading = quantity.reading(figures, argument, rows)
    ends = (reading.lower, reading.upper)
    if ends[0] == ends[1] or not any(map(math.isfinite, ends)):
        return None if math.isnan(value) else _series(spans, scope, name, quantity.name, argument, value)
    return _series(spans, scope, name, quantity.name, argument, value, *map(_number, ends))


def _of_search(spans: Spans, searched: ScopeSearch) -> Iterator[Series]:
    scope = TOTAL if searched.name is None else TENSOR
    for found in searched.found:
        for stored, quantity in stored_in(FOUND):
            figures = [_number(getattr(found, field)) for field in (stored.name, *stored.ends)]
            if not all(map(math.isnan, figures)):
                yield _series(spans, scope, searched.name, quantity.name, found.family, *figures)


def _series(
    spans: Spans, scope: str, name: str | None, quantity: str, argument: str, value: float, *ends: float
) -> Series:
    lower, upper = (np.array([end]) for end in ends) if ends else (None, None)
    return Series(spans, scope, name, quantity, argument, np.array([value]), lower, upper)


def _number(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.nan


# By window.


def _of_windows(analysis: Analysis) -> Iterator[Series]:
    windows = analysis.windows
    if windows is None:
        return
    spans = Spans(WINDOW, windows.rows - np.array([0, 1]), windows.step)
    yield from _of_scope_windows(spans, TOTAL, None, windows.total)
    for tensor, held in zip(analysis.tensors, windows.tensors, strict=True):
        yield from _of_scope_windows(spans, TENSOR, tensor.name, held)


def _of_scope_windows(spans: Spans, scope: str, name: str | None, held: ScopeWindows) -> Iterator[Series]:
    for quantity in QUANTITIES.values():
        values = getattr(held, _field_of_windows(quantity), None)
        if isinstance(values, Mapping):
            for argument, each in values.items():
                # An epsilon is a number there.
                told = argument if isinstance(argument, str) else repr(argument)
                yield Series(spans, scope, name, quantity.name, told, each)
        elif values is not None:
            yield Series(spans, scope, name, quantity.name, "", values)


def _field_of_windows(quantity: Quantity) -> str:
    """The field of `ScopeWindows` for a quantity: of its own name, or of its field in `PredictorResult`."""
    fields = {field.name for field in dataclasses.fields(ScopeWindows)}
    if quantity.name not in fields and quantity.section is PREDICTOR and quantity.stored is not None:
        return quantity.stored.name
    return quantity.name


def _of_subspace_windows(analysis: Analysis) -> Iterator[Series]:
    """Of the whole model; these windows are those of the subspaces, and have their own length."""
    subspace, rows = analysis.total.subspace, analysis.run.rows
    if subspace is None:
        return
    for argument in ROWS:
        windows = getattr(subspace, argument).windows
        if not windows:
            continue
        first = np.array([window.row for window in windows], dtype=np.int64)
        ends = np.stack([first, np.minimum(first + subspace.window, rows) - 1], axis=1)
        spans = _spans(WINDOW, ends, analysis)
        for stored, quantity in stored_in(SUBSPACE):
            values = np.array([_number(getattr(window, stored.name)) for window in windows])
            yield Series(spans, TOTAL, None, quantity.name, argument, values)


# By step.


def _of_steps(analysis: Analysis) -> Iterator[Series]:
    steps, logged = analysis.steps, analysis.series or {}
    rows = np.arange(analysis.run.rows, dtype=np.int64)
    spans = _spans(STEP, np.stack([rows, rows], axis=1), analysis)
    for quantity, argument, values in itertools.chain(_fields(steps), _named(logged)):
        if values.size == rows.size:
            yield Series(spans, TOTAL, None, quantity, argument, values)


def _named(logged: Mapping[str, Doubles]) -> Iterator[tuple[str, str, Doubles]]:
    return ((name, "", values) for name, values in logged.items())


def _fields(steps: Steps) -> Iterator[tuple[str, str, Doubles]]:
    """Every series but the steps themselves, with its name and argument."""
    for field in dataclasses.fields(steps):
        held = getattr(steps, field.name)
        if isinstance(held, Mapping):
            for argument, values in held.items():
                yield field.name, argument, values
        elif held is not steps.step:
            yield field.name, "", held


def _of_tensor_steps(analysis: Analysis) -> Iterator[Series]:
    held = analysis.tensor_steps
    if held is None:
        return
    spans = _spans(STEP, np.stack([held.edges[:-1], held.edges[1:] - 1], axis=1), analysis)
    fields = [field.name for field in dataclasses.fields(held) if field.name != "edges"]
    for number, tensor in enumerate(analysis.tensors):
        for quantity in fields:
            values = getattr(held, quantity)
            by_argument = values if isinstance(values, Mapping) else {"": values}
            for argument, each in by_argument.items():
                yield Series(spans, TENSOR, tensor.name, quantity, argument, each[number])


# What is not there.


def _left_out(analysis: Analysis) -> Iterator[str]:
    if analysis.windows is None:
        yield "figures of windows, which --windows asks for"
    if analysis.total.spectrum is None:
        yield "ranks, as it was analyzed with --rank none"
    if not analysis.steps.step.size:
        yield "series by step, which analyze --format json holds"
    if analysis.tensor_steps is None:
        yield (
            tensor_steps_elsewhere(analysis)
            or "series of tensors by step, which analyze --tensor-steps holds"
        )
    if not analysis.series:
        yield f"loss and lr, which the {'result' if analysis.series is None else 'log'} doesn't hold"
    for name, values in (analysis.series or {}).items():
        lost = int(np.count_nonzero(~np.isfinite(values)))
        if lost:
            yield f"{name} of {lost:,} {'row' if lost == 1 else 'rows'}, where it is no number"
    zero = sum(scope.energy == 0 for scope in analysis.tensors)
    if zero:
        yield f"kappa of {zero:,} {'tensor' if zero == 1 else 'tensors'} whose {{gradients}} are all zero"
    if analysis.total.estimated:
        yield "intervals by window and step, where a sketch estimates the figures"
