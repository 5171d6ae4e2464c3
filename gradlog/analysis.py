"""Analyze a log: open, check, plan, one pass, results."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .assembly import assemble
from .blocks import BlockReader
from .errors import DataError, UsageError
from .log import GradientLog, sketch_of
from .preparation import DEFAULT_MEMORY, Preparation, Progress, check_settings, prepare
from .result import Analysis, LogWarning, Settings
from .series import LOSSES, RATES, series_of_rows
from .store import codec_pipeline

if TYPE_CHECKING:
    from .advice.gleaning import Gleaning
    from .pass_result import NonfiniteRow, PassResult


def analyze(
    run: str | os.PathLike[str] | GradientLog,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
    tensor_steps: bool = False,
    search: bool = False,
) -> Analysis:
    """Path lengths, kappas and predictable ranks of a run's gradients, from one pass over its log.

    Parameters
    ----------
    run : path of a store, or a log from `open_log`
    settings : everything that changes the numbers; `Settings()` by default
    threads : tiles in work at once; by default the processors this process may use. The numbers are the
        same to the last bit for any number of threads
    memory : bytes that the pass may take above the interpreter and its libraries
    progress : called with (bytes done, bytes in all) from the calling thread
    tensor_steps : keep the per-step sums of each tensor too, as `compare` needs them for intervals
    search : find the best predictors of each family too, as `bounds` needs them

    Raises
    ------
    UsageError : settings that make no sense, or that select nothing
    DataError : the log is at fault; the message names file, tensor and row
    MemoryLimitError : the work does not fit in `memory`; the message says how much it takes
    """
    settings = settings or Settings()
    if settings.project is not None:
        if search:
            raise UsageError("--project: --search takes the gradients themselves")
        from .sketch_writer import analyze_projected

        check_settings(settings)
        return analyze_projected(
            run, settings, threads=threads, memory=memory, progress=progress, tensor_steps=tensor_steps
        )
    ready = prepare(run, settings, threads, memory, tensor_steps=tensor_steps, search=search)
    return run_analysis(ready, progress, tensor_steps=tensor_steps)[0]


def run_analysis(
    ready: Preparation, progress: Progress | None, *, tensor_steps: bool
) -> tuple[Analysis, Gleaning | None, NDArray[np.bool_] | None]:
    """The pass that was prepared, what was gleaned on the way, and the rows that were kept (None: all)."""
    warnings = list(ready.warnings)
    with codec_pipeline(ready.workers):
        result, keep = _gather(ready, warnings, progress)
    if not tensor_steps:
        result.tensor_series = None
    cost = ready.cost(passes=1 if keep is None else 2)
    analysis = assemble(ready.read(keep), ready.settings, result, warnings, cost)
    if ready.search or sketch_of(ready.log) is not None:
        series = series_of_rows(ready.log, (*LOSSES, *RATES), ready.plan.rows, keep)
        analysis = replace(analysis, series=series)
    return analysis, result.gleaning, keep


def _gather(
    ready: Preparation, warnings: list[LogWarning], progress: Progress | None
) -> tuple[PassResult, NDArray[np.bool_] | None]:
    """One pass; a second one without the rows that are not finite, where they are to be dropped."""
    log, plan = ready.log, ready.plan
    result = take_pass(ready, None, progress)
    if not result.nonfinite:
        return result, None
    told = nonfinite_text(ready, result.nonfinite)
    if ready.settings.nonfinite == "fail":
        raise DataError(
            f"{log.path}: {told}; --nonfinite drop leaves those steps out, --rows and --exclude choose others"
        )
    keep = np.ones(plan.count, dtype=bool)
    keep[[bad.row for bad in result.nonfinite]] = False
    if not keep.any():
        raise DataError(f"{log.path}: {told}; no row is left once those steps are dropped")
    steps = log.step[plan.rows[0] : plan.rows[1]][~keep].tolist()
    warnings.append(
        LogWarning("steps-dropped", f"{told}; {len(steps)} steps left out for all tensors: {_list(steps)}")
    )
    return take_pass(ready, keep, progress), keep


def take_pass(ready: Preparation, keep: NDArray[np.bool_] | None, progress: Progress | None) -> PassResult:
    """One pass over what was prepared. keep : (rows,) bool, False for rows to leave out; None keeps all."""
    log, plan, tensors = ready.log, ready.plan, ready.tensors
    # Sums that overflow are told by name once they are whole.
    with np.errstate(over="ignore", invalid="ignore"), BlockReader(log.path, tensors, plan, keep) as reader:
        with _short_turns():
            # The first block is read while kernels and BLAS load.
            from ..kernels.gram import one_blas_thread
            from .streaming import compile_kernels, run_pass
            from .subspace import ModelSubspaces

            compile_kernels(tensors)
        rows = plan.count if keep is None else int(keep.sum())
        try:
            with one_blas_thread():
                return run_pass(
                    reader, tensors, plan, ready.bank, rows, ready.settings.epsilons, progress,
                    None if ready.part is None else ready.part.ranges,
                    tensor_steps=ready.tensor_steps, search=ready.search, band=ready.band,
                    subspaces=ModelSubspaces.wanted(ready.settings, rows, len(tensors), plan),
                    gleaning=None if ready.glean is None else ready.glean(ready, rows),
                )  # fmt: skip
        except OverflowError as error:
            raise DataError(
                f"{log.path}: {error}; --rank none gives the path lengths, and gradients logged as float64 "
                "the ranks too"
            ) from error


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads that read wait less for one that imports: reading a block takes a dozen turns."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, 1e-4))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def nonfinite_text(ready: Preparation, bad: Sequence[NonfiniteRow]) -> str:
    """Where gradients are not finite, in words."""
    log, plan, tensors = ready.log, ready.plan, ready.tensors
    first = min(bad, key=lambda item: (item.row, item.tensor))
    row = plan.rows[0] + first.row
    count = sum(item.count for item in bad)
    rows = len({item.row for item in bad})
    return (
        f"{count} entries are NaN or infinite, in {rows} row{'s' * (rows > 1)}: "
        f"first tensor '{tensors[first.tensor].name}', row {row} (training step {log.step[row]})"
    )


def _list(steps: Sequence[int], most: int = 20) -> str:
    shown = ", ".join(map(str, steps[:most]))
    return shown + (f", ... ({len(steps) - most} more)" if len(steps) > most else "")
