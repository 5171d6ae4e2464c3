"""Write a sketch of a log: a small log of format 1 whose tensors are random projections of the other's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore, MemoryStore, StorePath

from ..engine.blocks import Block, BlockReader
from ..errors import DataError, MemoryLimitError, UsageError
from ..logs.entry_types import REALS
from ..logs.log import FORMAT_VERSION, GRADS, STEP, GradientLog, Tensor, read_log, sketch_of
from ..logs.series import read_series
from ..logs.store import codec_pipeline, plain_array
from ..progress import Progress
from ..results.projection import Projection
from ..results.result import Analysis, LogWarning, Settings
from ..sizes import DEFAULT_MEMORY, format_size
from .preparation import Preparation, prepare
from .prepared_pass import run_analysis
from .wanted import Wanted

if TYPE_CHECKING:
    from ..measures.sketch.sketcher import Sketcher

CHUNK_BYTES = 4 << 20
SERIES_CHUNK = 1 << 13


@dataclass(frozen=True)
class SketchSummary:
    """What was written. projected : tensors that were projected; the others were copied"""

    path: str
    out: str
    projection: Projection
    rows: int
    tensors: int
    projected: int
    bytes_read: int
    bytes_written: int
    warnings: tuple[LogWarning, ...]


def sketch_log(
    run: str | os.PathLike[str] | GradientLog,
    out: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> SketchSummary:
    """Read a log once and write its sketch to the folder `out`, which appears whole or not at all.

    Tensors of more than M parameters become (N, groups, M / groups) float32, or float64 where they are;
    smaller ones, `step`, series and attributes are copied. What is used of `settings`: sketch_dim (1024 by
    default, or less where memory is short), seed, tensors, exclude, rows, repeated, truncate, gradients,
    strict.

    Raises
    ------
    UsageError : `out` exists, or the log is a sketch already
    DataError : the log is at fault, or holds NaN or infinity
    MemoryLimitError : it does not fit in `memory`
    """
    target = Path(out)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target}: already there; choose another path or remove it")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"{target}: there is no folder {str(target.absolute().parent)!r}")
    ready = _prepared(run, settings or Settings(), threads, memory)
    folder = target.absolute().parent / f".{target.name}.{os.urandom(8).hex()}.tmp"
    try:
        folder.mkdir(mode=0o700)
        written = _write(ready, LocalStore(folder), progress)
        folder.chmod(0o777 & ~_umask())
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
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
    )


def analyze_projected(
    run: str | os.PathLike[str] | GradientLog,
    settings: Settings,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
    tensor_steps: bool = False,
) -> Analysis:
    """Sketch a log to `settings.project` dimensions in memory and analyze that. Otherwise as `analyze`."""
    ready, size = prepare_projected(run, settings, threads, memory)
    store = MemoryStore()
    _write(ready, store, progress)
    with codec_pipeline(ready.workers):
        log = read_log(ready.log.path, StorePath(store))
    sketched = replace(log, warnings=ready.warnings)
    # What chose tensors and rows has done so: the names and rows that are there are all that are wanted.
    inside = replace(
        settings, project=None, sketch_dim=None, seed=0, tensors=(), exclude=(), rows=(None, None)
    )
    wanted = Wanted(tensor_steps=tensor_steps)
    found, *_ = run_analysis(prepare(sketched, inside, threads, memory - size, wanted=wanted), None)
    return replace(found, settings=settings, cost=ready.cost())


def prepare_projected(
    run: str | os.PathLike[str] | GradientLog, settings: Settings, threads: int | None, memory: int
) -> tuple[Preparation, int]:
    """The pass that sketches a log to `settings.project` dimensions, and the bytes of the sketch.

    Raises MemoryLimitError where the sketch takes more than half of `memory`.
    """
    dim = settings.project or 0
    ready = _prepared(run, replace(settings, sketch_dim=dim), threads, memory)
    rows = ready.rows
    columns = sum(dim if ready.sketch.is_wide(t) else t.parameters for t in ready.tensors)
    size = rows * columns * max((t.compute_dtype.itemsize for t in ready.tensors), default=4)
    if size > memory // 2:
        raise MemoryLimitError(
            f"{ready.log.path}: its sketch of dimension {dim} takes {format_size(size)}: give --memory "
            f"{format_size(2 * size)}, or write it with gradmf sketch --dim {dim} and analyze that"
        )
    if ready.plan.memory + size > memory:  # both are there at the end of the pass
        ready = _prepared(run, replace(settings, sketch_dim=dim), threads, memory - size)
    return ready, size


def _prepared(
    run: str | os.PathLike[str] | GradientLog, settings: Settings, threads: int | None, memory: int
) -> Preparation:
    wanted = Settings(
        predictors=("one-step",), rank="sketch", sketch_dim=settings.sketch_dim, seed=settings.seed,
        tensors=settings.tensors, exclude=settings.exclude, rows=settings.rows,
        repeated=settings.repeated, truncate=settings.truncate, gradients=settings.gradients,
        strict=settings.strict,
    )  # fmt: skip
    ready = prepare(run, wanted, threads, memory)
    if sketch_of(ready.log) is not None:
        raise UsageError(f"{ready.log.path}: a sketch already: sketch the log that it was made of")
    return ready


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(ready: Preparation, store: Store, progress: Progress | None) -> int:
    """Write all; returns the bytes of gradients written."""
    from ...kernels.gram import one_blas_thread
    from ..measures.sketch.sketcher import Sketcher

    log, plan = ready.log, ready.plan
    rows = ready.rows
    sketch = ready.sketch
    with codec_pipeline(ready.workers):
        group = zarr.open_group(store, mode="w", zarr_format=3)
        declared: Any = {"version": FORMAT_VERSION, "projection": sketch.projection.document()}
        group.attrs.update({**log.attributes, "gradlog": declared})
        arrays = [
            _array(group, tensor, sketch.is_wide(tensor), sketch.projection, rows) for tensor in ready.tensors
        ]
        done = 0
        pool = ThreadPoolExecutor(plan.workers, thread_name_prefix="gradmf-compute")
        sketcher = Sketcher(ready.tensors, plan, sketch, rows)
        try:
            with one_blas_thread(), BlockReader(log.path, ready.tensors, plan, ready.keep) as reader:
                for block in reader:
                    _project(sketcher, pool, block)
                    _copy_small(ready, arrays, block)
                    unit = sketcher.merged(block)
                    if unit is not None and unit[0] is not None:
                        _write_sketch(ready, unit[0], arrays[unit[0]], unit[1])
                    done += block.stored_bytes
                    reader.release(block)
                    if progress is not None:
                        progress(done, plan.decoded_bytes)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        _write_series(log, group, plan.rows, ready.keep)
    return sum(int(array.nbytes) for array in arrays)


def _array(
    group: zarr.Group, tensor: Tensor, wide: bool, projection: Projection, rows: int
) -> zarr.Array[Any]:
    dtype = (
        tensor.array.dtype.newbyteorder("=") if tensor.dtype in REALS and not wide else tensor.compute_dtype
    )
    shape = (projection.groups, projection.width) if wide else tensor.shape
    size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    chunks = (max(1, min(rows, CHUNK_BYTES // size)), *(max(1, extent) for extent in shape))
    names = ["step", *(["group", "sum"] if wide else [f"dim_{axis}" for axis in range(len(shape))])]
    attributes: dict[str, Any] = (
        {"gradlog": {"shape": list(tensor.shape), "dtype": tensor.dtype}} if wide else {}
    )
    array = group.create_array(
        f"{GRADS}/{tensor.name}", shape=(rows, *shape), chunks=chunks, dtype=dtype,
        compressors=(Crc32cCodec(),), dimension_names=names, attributes=attributes,
        config={"write_empty_chunks": True},
    )  # fmt: skip
    return plain_array(array)


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


def _copy_small(ready: Preparation, arrays: Sequence[zarr.Array[Any]], block: Block) -> None:
    stop = block.start + block.values.shape[0]
    for segment, first, last in block.range.columns():
        index = segment.tensor
        if ready.sketch.is_wide(ready.tensors[index]):
            continue
        values = block.values[:, first:last]
        _check_finite(ready, index, values, block.start)
        array = arrays[index]
        array[block.start : stop] = values.reshape(-1, *array.shape[1:]).astype(array.dtype)


def _write_sketch(ready: Preparation, index: int, array: zarr.Array[Any], sums: NDArray[np.float64]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        values = sums.astype(array.dtype)
    _check_finite(ready, index, values, 0)
    array[...] = values.reshape(array.shape)


def _check_finite(ready: Preparation, index: int, values: NDArray[Any], start: int) -> None:
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        row = ready.plan.rows[0] + start + int(np.argmax(bad))
        raise DataError(
            f"{ready.log.path}: tensor '{ready.tensors[index].name}', row {row} (training step "
            f"{ready.log.step[row]}): NaN, infinite, or too large to be summed; "
            "--rows and --exclude choose others"
        )


def _write_series(
    log: GradientLog, group: zarr.Group, rows: tuple[int, int], keep: NDArray[np.bool_] | None
) -> None:
    values: Mapping[str, NDArray[Any]] = {
        **{name: read_series(log, name, rows) for name in log.series},
        STEP: log.step[slice(*rows)],
    }
    for name, found in values.items():  # `step` stands last: it commits the rows
        series = found if keep is None else found[keep]
        array = group.create_array(
            name, shape=series.shape, chunks=(max(1, min(series.size, SERIES_CHUNK)),), dtype=series.dtype,
            compressors=(Crc32cCodec(),), dimension_names=["step"], config={"write_empty_chunks": True},
        )  # fmt: skip
        plain_array(array)[...] = series
