"""Copy a log into a layout that is analyzed fast: every entry as it is stored, in bounded memory."""

from __future__ import annotations

import errno
import itertools
import math
import os
import queue
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.request import Request
from ..errors import DataError, MemoryLimitError, UsageError
from ..logs.absent_chunks import absent_chunk_warnings
from ..logs.growing_array import GrowingArray
from ..logs.log import GIVE_UP_SECONDS, GRADS, GradientLog, Tensor
from ..logs.opening import Run
from ..logs.places.finding import place_of
from ..logs.places.local_place import LocalPlace
from ..logs.places.place import Place
from ..logs.row_values import check_names
from ..logs.series import read_series, series_attributes
from ..logs.store import codec_pipeline
from ..logs.stored_array import CHUNK_BYTES
from ..logs.stored_entries import Box, true_of_copy
from ..logs.whole_log import WholeLog
from ..naming import shown
from ..predictors import HistoryBank
from ..processors import available_processors
from ..progress import Progress
from ..quick_dataclass import dataclass
from ..results.result import LogWarning, Settings
from ..results.row_kind import RowKind, said_of_rows
from ..sizes import DEFAULT_MEMORY
from .rechunk_layout import DECODING_BYTES, Slab, TensorCopy, common_height, plan_copy
from .selecting import open_for_pass, select_rows, select_tensors

SHOWN = 6
"""Names that a warning shows."""
BATCH_BYTES = 256 << 10
"""Of a chunk that are put together, summed and written at once: they stay in the second cache."""
METADATA_BYTES = 4 << 10
"""Of a file, at most, beside those of its chunk: what file systems round up."""


@dataclass(frozen=True)
class CopiedTensor:
    """One tensor before and after. chunks : (rows, *shape); decodes : of its chunks, on average"""

    name: str
    shape: tuple[int, ...]
    dtype: str
    chunks_before: tuple[int, ...]
    chunks: tuple[int, ...]
    count_before: int
    count: int
    decodes: float


@dataclass(frozen=True)
class RechunkPlan:
    """What would be copied, and how.

    kind : of the rows, gradients or updates
    rows : (first, last + 1) stored rows; bytes_read : of gradients, decoded, each once
    bytes_written : of files of chunks, before they are compressed, where `compress` says so
    memory : at most, above the interpreter and its libraries; seconds : a rough estimate
    """

    path: str
    kind: RowKind
    rows: tuple[int, int]
    tensors: tuple[CopiedTensor, ...]
    series: tuple[str, ...]
    bytes_read: int
    bytes_written: int
    compress: bool
    memory: int
    seconds: float
    warnings: tuple[LogWarning, ...]

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.rows[1] - self.rows[0]

    @property
    def chunks_before(self) -> int:
        """Chunks of all tensors that hold the rows."""
        return sum(tensor.count_before for tensor in self.tensors)

    @property
    def chunks(self) -> int:
        """Chunks of all tensors of the copy."""
        return sum(tensor.count for tensor in self.tensors)

    @property
    def decodes(self) -> float:
        """How often the chunks that are decoded most often are, on average over a tensor."""
        return max((tensor.decodes for tensor in self.tensors), default=1.0)


@dataclass(frozen=True)
class RechunkSummary:
    """What was written. plan : that was followed; bytes_written : of chunks; seconds : from the first on"""

    plan: RechunkPlan
    out: str
    bytes_written: int
    seconds: float
    warnings: tuple[LogWarning, ...]


def rechunk_log(
    run: Run,
    out: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
    chunk_rows: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    compress: bool = False,
) -> RechunkSummary:
    """Copy a log to the folder `out`, laid out to be analyzed fast; it appears whole or not at all.

    `out` is a log of format 1 of the same rows, training steps, series, attributes and tensors. Real entries
    are copied bit by bit, NaN and infinity too, bfloat16 as uint16 with its mark. Complex entries become a
    last axis of two real ones, packed ones (scale_factor, _FillValue) the float numbers that they stand for.

    Parameters
    ----------
    run, threads, memory, progress : as of `analyze`
    settings : of which tensors, exclude, rows, truncate, gradients and strict are used
    chunk_rows : rows of a chunk; by default all, where they are at most 1,024
    chunk_bytes : size of a chunk aimed at
    compress : by zstd: smaller where many entries are zero, slower to read

    Raises
    ------
    UsageError : `out` exists or lies inside of `run`, or an option is none
    DataError : the log is at fault
    MemoryLimitError : `memory` does not hold the chunks that are decoded, or those that are written
    OSError : the system refuses to write, or there is too little room
    """
    began = time.perf_counter()
    place = place_of(out)
    place.check_free()
    ready = _prepare(run, settings or Settings(), threads, memory, chunk_rows, chunk_bytes, compress=compress)
    _check_outside(ready.log.path, place)
    if not compress:
        _check_room(place, ready)
    with WholeLog.at_place(place) as copy:
        written, warnings = _write(ready, copy, progress)
    seconds = time.perf_counter() - began
    return RechunkSummary(ready.plan, os.fspath(out), written, seconds, (*ready.plan.warnings, *warnings))


def plan_rechunk(
    run: Run,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    chunk_rows: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    compress: bool = False,
) -> RechunkPlan:
    """What `rechunk_log` would do: no gradient is read, nothing is written. Arguments and errors as there."""
    ready = _prepare(run, settings or Settings(), threads, memory, chunk_rows, chunk_bytes, compress=compress)
    return ready.plan


@dataclass(frozen=True)
class _Ready:
    """All that is settled before the first gradient is read. room : bytes for chunks in decoding"""

    log: GradientLog
    copies: tuple[TensorCopy, ...]
    plan: RechunkPlan
    workers: int
    room: int
    compress: bool


def _prepare(
    run: Run,
    settings: Settings,
    threads: int | None,
    memory: int,
    chunk_rows: int | None,
    chunk_bytes: int,
    *,
    compress: bool,
) -> _Ready:
    if (chunk_rows is not None and chunk_rows < 1) or chunk_bytes < 1:
        raise UsageError("chunk_rows and chunk_bytes must be at least 1")
    workers = threads or available_processors()
    log = open_for_pass(run, settings, workers)
    with codec_pipeline(workers):
        tensors, told = select_tensors(log, settings)
        rows = select_rows(log, settings)
        absent = absent_chunk_warnings(
            log, tensors, rows, strict=settings.strict, nonfinite="drop", taken="written"
        )
    _check_names(log, tensors)
    request = Request(tensors, rows, HistoryBank.of((), rows[1] - rows[0]), memory, workers)
    count = rows[1] - rows[0]
    height = min(chunk_rows or common_height(count, sum(t.parameters for t in tensors)), count)
    decoding = max(request.decoding_bytes, min(DECODING_BYTES, memory // 4))
    pieces = (workers + 1) * (chunk_bytes + chunk_bytes // 4)
    room = max(memory // 4, memory - decoding - pieces)
    try:
        request.check_chunks()
        copies = tuple(
            plan_copy(tensor, rows, height, chunk_bytes, room, fixed=chunk_rows is not None, whole=compress)
            for tensor in tensors
        )
    except MemoryLimitError as error:
        raise MemoryLimitError(f"{log.path}: {error}") from error
    warnings = [*log.warnings, *told, *absent, *_left_warnings(log), *_decodes_warnings(copies)]
    plan = RechunkPlan(
        path=log.path,
        kind=log.kind,
        rows=rows,
        tensors=tuple(
            CopiedTensor(
                copy.tensor.name, copy.tensor.shape, copy.tensor.dtype, copy.tensor.chunks, copy.chunks,
                copy.chunks_before, copy.chunks_after, copy.decodes,
            )
            for copy in copies
        ),
        series=tuple(log.series),
        bytes_read=sum(copy.bytes_read for copy in copies),
        bytes_written=sum(copy.bytes_written for copy in copies),
        compress=compress,
        memory=_arena_bytes(copies) + decoding + pieces,
        seconds=sum(copy.seconds for copy in copies),
        warnings=tuple(warnings),
    )  # fmt: skip
    return _Ready(log, copies, plan, workers, decoding, compress)


def _check_names(log: GradientLog, tensors: Sequence[Tensor]) -> None:
    names = [tensor.name for tensor in tensors]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise DataError(f"{log.path}: two tensors are called '{min(twice)}': choose one by its path")
    try:
        check_names(names, log.series)
    except UsageError as error:
        raise DataError(f"{log.path}: {error}") from error


def _check_outside(path: str, place: Place) -> None:
    """Raise UsageError for a copy inside of what is copied."""
    inside = place.name.startswith(f"{path.rstrip('/')}/")
    if isinstance(place, LocalPlace):
        source = Path(path.removeprefix("file://"))
        above = place.path.absolute().parent.resolve().joinpath("x").parents
        inside = source.is_dir() and source.resolve() in above
    if inside:
        raise UsageError(f"{place.name}: it lies in the log {path}; choose another path")


def _check_room(place: Place, ready: _Ready) -> None:
    files = ready.plan.chunks + 2 * len(ready.copies) + 2 * len(ready.log.series)
    needed = ready.plan.bytes_written + METADATA_BYTES * files
    free = shutil.disk_usage(place.folder_filled()).free
    if free < needed:
        told = f"no room for the copy: {needed:,} bytes are needed, {free:,} are free"
        raise OSError(errno.ENOSPC, told, place.name)


def _left_warnings(log: GradientLog) -> list[LogWarning]:
    """What is in the store and is not copied, where no other warning says so."""
    told = {"arrays-left-out", "objects-left-out"} & {warning.code for warning in log.warnings}
    left = [path for path in log.left_out if path not in log.series]
    if told or not left:
        return []
    return [
        LogWarning(
            "arrays-not-copied", f"not copied, as no {log.kind.name} and no series: {shown(left, SHOWN)}"
        )
    ]


def _decodes_warnings(copies: Sequence[TensorCopy]) -> list[LogWarning]:
    again = [copy for copy in copies if copy.decodes > 1.01]
    if not again:
        return []
    worst = max(again, key=lambda copy: copy.decodes)
    return [
        LogWarning(
            "chunks-decoded-again",
            f"no order that fits the memory decodes every chunk once: those of '{worst.tensor.name}' are "
            f"decoded {worst.decodes:.3g} times on average; more memory copies faster",
        )
    ]


def _write(ready: _Ready, copy: WholeLog, progress: Progress | None) -> tuple[int, list[LogWarning]]:
    """Write all; returns the bytes of chunks, and what could not be kept."""
    log, plan = ready.log, ready.plan
    root, declared = _root_attributes(log)
    copy.begin(plan.count, root, declared)
    arrays = []
    for each in ready.copies:
        entries = each.entries
        try:
            attributes = entries.attributes(plan.rows)
        except DataError as error:
            raise DataError(f"{log.path}: {error}") from error
        arrays.append(
            copy.grow(
                each.tensor.name, each.tensor.shape, each.chunks, entries.dtype, entries.axes(), attributes,
                compress=ready.compress,
            )
        )  # fmt: skip
    done = written = 0
    pool = ThreadPoolExecutor(ready.workers, thread_name_prefix="gradmf-write")
    try:
        with codec_pipeline(ready.workers), _SlabReader(ready) as reader:
            for read in reader:
                put = _Putter(ready.copies[read.number], arrays[read.number], read, ready.compress)
                written += sum(pool.map(put, put.pieces()))
                done += ready.copies[read.number].entries.nbytes(*read.extent)
                reader.release(read)
                if progress is not None:
                    progress(done, plan.bytes_read)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    warnings = _write_series(log, copy, plan.rows)
    copy.commit(log.step[slice(*plan.rows)], {})
    return written, warnings


def _write_series(log: GradientLog, copy: WholeLog, rows: tuple[int, int]) -> list[LogWarning]:
    warnings = []
    for name in log.series:
        values = read_series(log, name, rows)
        try:
            copy.add_series(name, values, true_of_copy(series_attributes(log.series[name])))
        except UsageError as error:
            warnings.append(LogWarning("series-not-copied", f"not copied, as Zarr v3 has no such: {error}"))
    return warnings


def _root_attributes(log: GradientLog) -> tuple[dict[str, Any], dict[str, Any]]:
    """Free attributes of the root, and what its `gradlog` says beside the version."""
    if log.format_version is None and [tensor.name for tensor in log.tensors] == [GRADS]:
        free = true_of_copy(log.attributes, unpacked=True)  # of a single array, whose own they are
    else:
        free = dict(log.attributes)
    declared = free.pop("gradlog", None)
    if log.format_version is None or not isinstance(declared, Mapping):
        return free, said_of_rows(log.attributes)
    untrue = {"version"} if log.ranks is None else {"version", "ranks", "mesh"}
    return free, {key: value for key, value in declared.items() if key not in untrue}


@dataclass(frozen=True)
class _Read:
    """A slab in memory. number : of its tensor; values : as of `StoredEntries.read`; held : its buffers"""

    number: int
    slab: Slab
    values: NDArray[Any]
    held: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and parameters."""
        first, last = self.slab.rows
        return last - first, math.prod(part.stop - part.start for part in self.slab.box)


Piece = tuple[int, tuple[int, ...]]
"""Number of a band of chunks along the rows, and coordinates along the other axes."""


class _Putter:
    """Puts a slab into the chunks of the copy, piece by piece, in any thread."""

    _memory = threading.local()

    def __init__(self, copy: TensorCopy, array: GrowingArray, read: _Read, whole: bool) -> None:
        """whole : all rows of a chunk are written at once"""
        self._copy, self._array, self._read, self._whole = copy, array, read, whole
        first = copy.rows[0]
        self._rows = (read.slab.rows[0] - first, read.slab.rows[1] - first)

    def pieces(self) -> Iterator[Piece]:
        """What the slab holds of each chunk."""
        height, *sizes = self._copy.chunks
        bands = range(self._rows[0] // height, -(-self._rows[1] // height))
        places = [
            range(part.start // size, -(-part.stop // size))
            for part, size in zip(self._read.slab.box, sizes, strict=True)
        ]
        for place in itertools.product(*places):
            for band in bands:
                yield band, place

    def __call__(self, piece: Piece) -> int:
        """Bytes written."""
        band, place = piece
        height, *sizes = self._copy.chunks
        first, last = max(self._rows[0], band * height), min(self._rows[1], (band + 1) * height)
        box = tuple(
            slice(at * size - part.start, min((at + 1) * size, part.stop) - part.start)
            for at, size, part in zip(place, sizes, self._read.slab.box, strict=True)
        )
        batch = last - first
        if not self._whole:
            row = math.prod(sizes) * self._copy.entries.dtype.itemsize
            batch = max(1, min(batch, BATCH_BYTES // row))
        return self._array.append((band, *place), (first, last), self._batches((first, last), batch, box))

    def _batches(self, rows: tuple[int, int], count: int, box: Box) -> Iterator[NDArray[Any]]:
        """So many rows of a chunk at a time, in memory that the next takes, too. rows : of the copy"""
        sizes = self._copy.chunks[1:]
        padded = any(part.stop - part.start < size for part, size in zip(box, sizes, strict=True))
        for first in range(*rows, count):
            last = min(first + count, rows[1])
            target = self._target((last - first, *sizes), self._copy.entries.dtype)
            if padded:
                target[...] = 0
            values = self._read.values[first - self._rows[0] : last - self._rows[0]]
            self._copy.entries.put(values, box, target)
            yield target

    def _target(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Memory that the thread keeps: fresh one costs as much as what is put into it."""
        size = math.prod(shape) * dtype.itemsize
        held: NDArray[np.uint8] | None = getattr(self._memory, "held", None)
        if held is None or held.size < size:
            held = self._memory.held = np.empty(size, np.uint8)
        return held[:size].view(dtype).reshape(shape)


def _arena_bytes(copies: Sequence[TensorCopy]) -> int:
    return max((copy.slab_bytes * (1 + copy.overlapped) for copy in copies), default=0)


class _SlabReader:
    """Iterate over the slabs of copies while a thread reads ahead; a context manager that ends the thread.

    Every slab must be given back with `release` once it is written.
    """

    def __init__(self, ready: _Ready) -> None:
        self._ready = ready
        half = -(-_arena_bytes(ready.copies) // 64) * 32
        self._arena = np.empty(2 * half, np.uint8)
        self._half = half
        self._free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[_Read | BaseException | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        for number in range(2):
            self._free.put(number)
        self._thread = threading.Thread(target=self._run, name="gradmf-reader", daemon=True)

    def __enter__(self) -> _SlabReader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._free.put(None)
        while self._thread.is_alive():
            for copy in self._ready.copies:
                copy.tensor.give_up()
            self._thread.join(GIVE_UP_SECONDS)

    def __iter__(self) -> Iterator[_Read]:
        while True:
            item = self._done.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def release(self, read: _Read) -> None:
        """Give the memory of a slab back to the reader."""
        for number in read.held:
            self._free.put(number)

    def _run(self) -> None:
        try:
            for number, copy in enumerate(self._ready.copies):
                for slab in copy.slabs():
                    held = [self._free.get() for _ in range(1 if copy.overlapped else 2)]
                    if None in held or self._stop.is_set():
                        return
                    numbers = tuple(at for at in held if at is not None)
                    start = min(numbers) * self._half
                    buffer = self._arena[start : start + len(numbers) * self._half]
                    values = self._read(copy, slab, buffer)
                    self._done.put(_Read(number, slab, values, numbers))
            self._done.put(None)
        except BaseException as error:
            self._done.put(error)

    def _read(self, copy: TensorCopy, slab: Slab, buffer: NDArray[np.uint8]) -> NDArray[Any]:
        try:
            return copy.entries.read(slab.rows, slab.box, buffer, self._ready.room)
        except DataError as error:
            raise DataError(f"{self._ready.log.path}: {error}") from error
