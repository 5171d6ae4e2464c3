"""One pass over what was prepared, and what comes of rows that are not finite."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..engine.measure import RowSink
from ..engine.pass_work import PassWork
from ..engine.taking import take_work
from ..errors import DataError
from ..logs.opening import opening_of
from ..logs.series import LOSSES, RATES, series_of_rows
from ..logs.store import codec_pipeline
from ..progress import Progress
from ..results.result import Analysis, LogWarning
from ..results.selection import Selection
from .assembly import assemble
from .preparation import Preparation

if TYPE_CHECKING:
    from ..engine.one_pass import Gathered, NonfiniteRow


def run_analysis(
    ready: Preparation, progress: Progress | None
) -> tuple[Analysis, Gathered, NDArray[np.bool_] | None]:
    """The pass that was prepared, all that it gathered, and the rows that were kept (None: all)."""
    warnings = list(ready.warnings)
    with codec_pipeline(ready.workers), ready.scratch or contextlib.nullcontext():
        gathered, keep = _gather(ready, warnings, progress)
    cost = ready.cost(passes=1 if keep is ready.keep else 2)
    selection, told = with_series(ready, ready.selection(keep), keep)
    analysis = assemble(selection, ready.settings, gathered.results, [*warnings, *told], cost)
    return analysis, gathered, keep


def with_series(
    ready: Preparation, selection: Selection, keep: NDArray[np.bool_] | None
) -> tuple[Selection, list[LogWarning]]:
    """The selection with the log's loss and lr, or without damaged ones and the warning that says so.

    keep : of the rows that were prepared, as of `Preparation.selection`

    Raises DataError for damaged ones where a search goes with them.
    """
    try:
        series = series_of_rows(ready.log, (*LOSSES, *RATES), ready.plan.rows, keep)
    except DataError as error:
        if ready.wanted.search:
            raise
        # No other figure follows from them.
        told = LogWarning("series-unreadable", str(error).removeprefix(f"{ready.log.path}: "))
        return selection, [told]
    return replace(selection, series=series), []


def _gather(
    ready: Preparation, warnings: list[LogWarning], progress: Progress | None
) -> tuple[Gathered, NDArray[np.bool_] | None]:
    """One pass; a second one without the rows that are not finite, where they are to be dropped."""
    log, plan = ready.log, ready.plan
    result = take_pass(ready, ready.keep, progress)
    if not result.nonfinite:
        return result, ready.keep
    told = nonfinite_text(ready, result.nonfinite)
    if ready.settings.nonfinite == "fail":
        raise DataError(
            f"{log.path}: {told}; --nonfinite drop leaves those steps out, --rows and --exclude choose others"
        )
    taken = rows_taken(ready)
    bad = np.unique(taken[[item.row for item in result.nonfinite]])
    keep = np.zeros(plan.count, dtype=bool)
    keep[taken] = True
    keep[bad] = False
    if not keep.any():
        raise DataError(f"{log.path}: {told}; no row is left once those steps are dropped")
    steps = log.step[plan.rows[0] : plan.rows[1]][bad].tolist()
    warnings.append(
        LogWarning(
            "steps-dropped",
            f"{told}; {len(steps)} step{'s' * (len(steps) > 1)} left out for all tensors: {_list(steps)}",
        )
    )
    return take_pass(ready, keep, progress), keep


def take_pass(
    ready: Preparation,
    keep: NDArray[np.bool_] | None,
    progress: Progress | None,
    sink: RowSink | None = None,
) -> Gathered:
    """One pass over what was prepared. keep : (rows,) bool, False for rows to leave out; None keeps all

    sink : as of `PassContext`
    """
    strips = None if ready.part is None else ready.part.strips
    work = PassWork(ready.tensors, ready.plan, ready.bank, keep, strips, sink)
    try:
        if ready.cluster is not None:
            return ready.cluster.take(ready.log, opening_of(ready.settings), work, progress)
        return take_work(ready.log.path, work, progress)
    except OverflowError as error:
        raise DataError(
            f"{ready.log.path}: {error}; --rank none gives the path lengths, and {ready.log.kind.name} "
            "logged as float64 the ranks too"
        ) from error


def nonfinite_text(ready: Preparation, bad: Sequence[NonfiniteRow]) -> str:
    """Where gradients are not finite, in words."""
    log, plan, tensors = ready.log, ready.plan, ready.tensors
    first = min(bad, key=lambda item: (item.row, item.tensor))
    row = plan.rows[0] + int(rows_taken(ready)[first.row])
    count = sum(item.count for item in bad)
    rows = len({item.row for item in bad})
    return (
        f"{count} {'entry is' if count == 1 else 'entries are'} NaN or infinite, in {rows} "
        f"row{'s' * (rows > 1)}: "
        f"first tensor '{tensors[first.tensor].name}', row {row} (training step {log.step[row]})"
    )


def rows_taken(ready: Preparation) -> NDArray[np.intp]:
    """The plan's rows that the first pass takes, by the pass's own index."""
    return np.arange(ready.plan.count) if ready.keep is None else np.flatnonzero(ready.keep)


def _list(steps: Sequence[int], most: int = 20) -> str:
    shown = ", ".join(map(str, steps[:most]))
    return shown + (f", ... ({len(steps) - most} more)" if len(steps) > most else "")
