"""Write a sketch of a log: a small log of format 1 whose tensors are random projections of the other's."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cluster.cluster import taken_by
from ..errors import DataError, MemoryLimitError, UsageError
from ..logs.log import Tensor, sketch_of
from ..logs.opening import Run
from ..logs.places.finding import place_of
from ..logs.row_values import REALS
from ..logs.series import read_series
from ..logs.store import codec_pipeline
from ..logs.whole_log import WholeLog
from ..progress import Progress
from ..quick_dataclass import dataclass
from ..results.projection import Projection
from ..results.result import Analysis, LogWarning, Settings
from ..results.row_kind import OF_GRADIENTS, RowKind, said_of_rows
from ..sizes import DEFAULT_MEMORY, format_size
from .preparation import Preparation, prepare
from .prepared_pass import nonfinite_text, rows_taken, run_analysis, take_pass
from .wanted import Wanted

OTHERS = "--rows and --exclude choose others"


@dataclass(frozen=True)
class SketchSummary:
    """What was written. projected : tensors that were, the others were copied; kind : what the rows are"""

    path: str
    out: str
    projection: Projection
    rows: int
    tensors: int
    projected: int
    bytes_read: int
    bytes_written: int
    warnings: tuple[LogWarning, ...]
    kind: RowKind = OF_GRADIENTS


def sketch_log(
    run: Run,
    out: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> SketchSummary:
    """Read a log once and write its sketch to the folder or URL `out`, which appears whole or not at all.

    Tensors of more than M parameters become (N, groups, M / groups) float32, or float64 where they are;
    smaller ones, `step`, series and attributes are copied. What is used of `settings`: sketch_dim (1024 by
    default, or less where memory is short), seed, tensors, exclude, rows, repeated, truncate, gradients,
    strict. Other arguments as of `analyze`.

    Raises
    ------
    UsageError : `out` exists, or the log is a sketch already
    DataError : the log is at fault, or holds NaN or infinity
    MemoryLimitError : it does not fit in `memory`; of what a cluster sends back, the whole sketch
    ScratchError : as of `analyze`
    """
    target = place_of(out)
    target.check_free()
    ready = _prepared(run, settings or Settings(), threads, memory, scratch)
    if ready.cluster is not None and _bytes(ready) > memory:
        raise MemoryLimitError(
            f"{ready.log.path}: its sketch of dimension {ready.sketch.known_dim} takes "
            f"{format_size(_bytes(ready))}, and comes back from a cluster whole: give --memory "
            f"{format_size(_bytes(ready))}, or a smaller --dim"
        )
    with WholeLog.at_place(target) as sketch:
        written = _write(ready, sketch, progress)
    return SketchSummary(
        path=ready.log.path,
        out=os.fspath(out),
        projection=ready.sketch.projection,
        rows=ready.rows,
        tensors=len(ready.tensors),
        projected=sum(ready.sketch.is_wide(tensor) for tensor in ready.tensors),
        bytes_read=ready.plan.decoded_bytes,
        bytes_written=written,
        warnings=ready.warnings,
        kind=ready.log.kind,
    )


def analyze_projected(
    run: Run,
    settings: Settings,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    tensor_steps: bool = False,
) -> Analysis:
    """Sketch a log to `settings.project` dimensions in memory and analyze that. Otherwise as `analyze`."""
    ready, size = prepare_projected(run, settings, threads, memory, scratch)
    sketch = WholeLog.in_memory()
    _write(ready, sketch, progress)
    with codec_pipeline(ready.workers):
        log = sketch.read(ready.log.path)
    sketched = replace(log, warnings=ready.warnings)
    # What chose tensors and rows has done so: the names and rows that are there are all that are wanted.
    inside = replace(
        settings, project=None, sketch_dim=None, seed=0, tensors=(), exclude=(), rows=(None, None)
    )
    wanted = Wanted(tensor_steps=tensor_steps)
    with taken_by(None):  # what is small, and in this process's memory
        found, *_ = run_analysis(prepare(sketched, inside, threads, memory - size, wanted=wanted), None)
    return replace(found, settings=settings, cost=ready.cost())


def prepare_projected(
    run: Run,
    settings: Settings,
    threads: int | None,
    memory: int,
    scratch: str | os.PathLike[str] | None = None,
) -> tuple[Preparation, int]:
    """The pass that sketches a log to `settings.project` dimensions, and the bytes of the sketch.

    Raises MemoryLimitError where the sketch takes more than half of `memory`.
    """
    dim = settings.project or 0
    ready = _prepared(run, replace(settings, sketch_dim=dim), threads, memory, scratch)
    size = _bytes(ready)
    if size > memory // 2:
        raise MemoryLimitError(
            f"{ready.log.path}: its sketch of dimension {dim} takes {format_size(size)}: give --memory "
            f"{format_size(2 * size)}, or write it with gradmf sketch --dim {dim} and analyze that"
        )
    if ready.plan.memory + size > memory:  # both are there at the end of the pass
        ready = _prepared(run, replace(settings, sketch_dim=dim), threads, memory - size, scratch)
    return ready, size


def _bytes(ready: Preparation) -> int:
    """Of the sketch."""
    choice = ready.sketch
    columns = sum(choice.known_dim if choice.is_wide(t) else t.parameters for t in ready.tensors)
    return ready.rows * columns * max((t.compute_dtype.itemsize for t in ready.tensors), default=4)


def _prepared(
    run: Run,
    settings: Settings,
    threads: int | None,
    memory: int,
    scratch: str | os.PathLike[str] | None,
) -> Preparation:
    wanted = Settings(
        predictors=("one-step",), rank="sketch", sketch_dim=settings.sketch_dim, seed=settings.seed,
        tensors=settings.tensors, exclude=settings.exclude, rows=settings.rows,
        repeated=settings.repeated, truncate=settings.truncate, gradients=settings.gradients,
        strict=settings.strict,
    )  # fmt: skip
    ready = prepare(run, wanted, threads, memory, wanted=Wanted(sketch=True), scratch=scratch)
    if sketch_of(ready.log) is not None:
        raise UsageError(f"{ready.log.path}: a sketch already: sketch the log that it was made of")
    return ready


def _write(ready: Preparation, sketch: WholeLog, progress: Progress | None) -> int:
    """Write all; returns the bytes of gradients written."""
    log, plan = ready.log, ready.plan
    with codec_pipeline(ready.workers), ready.scratch or contextlib.nullcontext():
        declared = {**said_of_rows(log.attributes), "projection": ready.sketch.projection.document()}
        sketch.begin(ready.rows, log.attributes, declared)
        for tensor in ready.tensors:
            _add(sketch, ready, tensor)

        def write(tensor: int, first: int, values: NDArray[Any]) -> None:
            _check_sums(ready, tensor, first, values)
            sketch.write(ready.tensors[tensor].name, first, values)

        found = take_pass(ready, ready.keep, progress, write)
        if found.nonfinite:
            raise DataError(f"{log.path}: {nonfinite_text(ready, found.nonfinite)}; {OTHERS}")
        series = {name: _kept(ready, read_series(log, name, plan.rows)) for name in log.series}
        return sketch.commit(_kept(ready, log.step[slice(*plan.rows)]), series)


def _add(sketch: WholeLog, ready: Preparation, tensor: Tensor) -> None:
    """Make room for a tensor."""
    dtype: np.dtype[Any] = tensor.compute_dtype
    if ready.sketch.is_wide(tensor):
        projection = ready.sketch.projection
        of = {"shape": list(tensor.shape), "dtype": tensor.dtype}
        sums = (projection.groups, projection.width)
        sketch.add(tensor.name, sums, dtype, axes=("group", "sum"), declared=of)
    else:
        sketch.add(tensor.name, tensor.shape, np.dtype(tensor.dtype) if tensor.dtype in REALS else dtype)


def _kept(ready: Preparation, values: NDArray[Any]) -> NDArray[Any]:
    return values if ready.keep is None else values[ready.keep]


def _check_sums(ready: Preparation, tensor: int, first: int, values: NDArray[Any]) -> None:
    """Raise DataError where sums of finite gradients don't fit into their type."""
    bad = ~np.isfinite(values).all(axis=1)
    if not bad.any():
        return
    row = ready.plan.rows[0] + int(rows_taken(ready)[first + int(np.argmax(bad))])
    raise DataError(
        f"{ready.log.path}: tensor '{ready.tensors[tensor].name}', row {row} (training step "
        f"{ready.log.step[row]}): too large to be summed; {OTHERS}"
    )
