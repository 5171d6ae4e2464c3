"""Write a sketch of a log: a small log of format 1 whose tensors are random projections of the other's."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.block import Block
from ..engine.blocks import BlockReader
from ..errors import DataError, MemoryLimitError, UsageError
from ..logs.log import sketch_of
from ..logs.opening import Run
from ..logs.places.finding import place_of
from ..logs.row_values import REALS
from ..logs.series import read_series
from ..logs.store import codec_pipeline
from ..logs.whole_log import WholeLog
from ..progress import Progress
from ..results.projection import Projection
from ..results.result import Analysis, LogWarning, Settings
from ..results.row_kind import OF_GRADIENTS, RowKind, said_of_rows
from ..sizes import DEFAULT_MEMORY, format_size
from .preparation import Preparation, prepare
from .prepared_pass import run_analysis
from .wanted import Wanted

if TYPE_CHECKING:
    from ..measures.sketch.sketcher import Sketcher


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
    MemoryLimitError : it does not fit in `memory`
    ScratchError : as of `analyze`
    """
    target = place_of(out)
    target.check_free()
    ready = _prepared(run, settings or Settings(), threads, memory, scratch)
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
    rows = ready.rows
    columns = sum(dim if ready.sketch.is_wide(t) else t.parameters for t in ready.tensors)
    size = rows * columns * max((t.compute_dtype.itemsize for t in ready.tensors), default=4)
    if size > memory // 2:
        raise MemoryLimitError(
            f"{ready.log.path}: its sketch of dimension {dim} takes {format_size(size)}: give --memory "
            f"{format_size(2 * size)}, or write it with gradmf sketch --dim {dim} and analyze that"
        )
    if ready.plan.memory + size > memory:  # both are there at the end of the pass
        ready = _prepared(run, replace(settings, sketch_dim=dim), threads, memory - size, scratch)
    return ready, size


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
    ready = prepare(run, wanted, threads, memory, scratch=scratch)
    if sketch_of(ready.log) is not None:
        raise UsageError(f"{ready.log.path}: a sketch already: sketch the log that it was made of")
    return ready


def _write(ready: Preparation, sketch: WholeLog, progress: Progress | None) -> int:
    """Write all; returns the bytes of gradients written."""
    from ...kernels.gram import one_blas_thread
    from ..measures.sketch.sketcher import Sketcher

    log, plan = ready.log, ready.plan
    rows = ready.rows
    with codec_pipeline(ready.workers), ready.scratch or contextlib.nullcontext():
        declared = {**said_of_rows(log.attributes), "projection": ready.sketch.projection.document()}
        sketch.begin(rows, log.attributes, declared)
        dtypes = [_add(sketch, ready, index, ready.sketch.projection) for index in range(len(ready.tensors))]
        done = 0
        pool = ThreadPoolExecutor(plan.workers, thread_name_prefix="gradmf-compute")
        sketcher = Sketcher(ready.tensors, plan.ranges, ready.sketch, rows, plan.workers)
        try:
            with one_blas_thread(), BlockReader(log.path, ready.tensors, plan, ready.keep) as reader:
                for block in reader:
                    _project(sketcher, pool, block)
                    _copy_small(ready, sketch, block)
                    unit = sketcher.merged(block)
                    if unit is not None and unit[0] is not None:
                        _write_sketch(ready, sketch, unit[0], unit[1], dtypes[unit[0]])
                    done += block.stored_bytes
                    reader.release(block)
                    if progress is not None:
                        progress(done, plan.decoded_bytes)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        series = {name: _kept(ready, read_series(log, name, plan.rows)) for name in log.series}
        return sketch.commit(_kept(ready, log.step[slice(*plan.rows)]), series)


def _add(sketch: WholeLog, ready: Preparation, index: int, projection: Projection) -> np.dtype[Any]:
    """Make room for a tensor; returns the dtype that it is written as."""
    tensor = ready.tensors[index]
    dtype: np.dtype[Any] = tensor.compute_dtype
    if ready.sketch.is_wide(tensor):
        of = {"shape": list(tensor.shape), "dtype": tensor.dtype}
        sums = (projection.groups, projection.width)
        sketch.add(tensor.name, sums, dtype, axes=("group", "sum"), declared=of)
    else:
        dtype = np.dtype(tensor.dtype) if tensor.dtype in REALS else dtype
        sketch.add(tensor.name, tensor.shape, dtype)
    return dtype


def _kept(ready: Preparation, values: NDArray[Any]) -> NDArray[Any]:
    return values if ready.keep is None else values[ready.keep]


def _project(sketcher: Sketcher, pool: ThreadPoolExecutor, block: Block) -> None:
    waiting = []
    for strips in block.range.tiles:
        turn = sketcher.turn(block)
        waiting.append((pool.submit(sketcher.project, turn, block, strips), turn))
    try:
        for future, _ in waiting:
            future.result()
    finally:
        for _, turn in waiting:
            turn.finish()


def _copy_small(ready: Preparation, sketch: WholeLog, block: Block) -> None:
    for segment, first, last in block.range.columns():
        index = segment.tensor
        if ready.sketch.is_wide(ready.tensors[index]):
            continue
        values = block.values[:, first:last]
        _check_finite(ready, index, values, block.start)
        sketch.write(ready.tensors[index].name, block.start, values)


def _write_sketch(
    ready: Preparation, sketch: WholeLog, index: int, sums: NDArray[np.float64], dtype: np.dtype[Any]
) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        values = sums.astype(dtype)
    _check_finite(ready, index, values, 0)
    sketch.write(ready.tensors[index].name, 0, values)


def _check_finite(ready: Preparation, index: int, values: NDArray[Any], start: int) -> None:
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        row = ready.plan.rows[0] + start + int(np.argmax(bad))
        raise DataError(
            f"{ready.log.path}: tensor '{ready.tensors[index].name}', row {row} (training step "
            f"{ready.log.step[row]}): NaN, infinite, or too large to be summed; "
            "--rows and --exclude choose others"
        )
