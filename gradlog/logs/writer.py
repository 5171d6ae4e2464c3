"""Write a gradient log of format 1: chunks of tensors as their rows come, `step` last."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UsageError
from ..naming import shown
from .local_folder import LocalFolder
from .log import FORMAT_VERSION, GRADS, STEP
from .log_folder import LogFolder, naming
from .places.access import current_access
from .places.finding import growing_place
from .row_values import BFLOAT16, check_names, gradient, json_attributes, scalar, whole_step
from .stored_array import CHUNK_BYTES, METADATA, Layout, StoredArray

if TYPE_CHECKING:
    from .resuming import StoredRows

FLUSH_EVERY = 16
GATHERED_BYTES = 56 << 20
"""Rows that are gathered into one chunk are held in memory: so much, less what a row takes, or half a row."""
SERIES_ROWS = 4096
"""Rows of a chunk of `step` and of series, 32 KiB."""

TASK_BYTES = 1 << 20
"""Of a row that are worth a thread's while."""

Missing = Literal["fail", "zero"]
_Row = dict[str, tuple[NDArray[Any], str]]


def create_log(
    path: str | os.PathLike[str],
    *,
    attributes: Mapping[str, Any] | None = None,
    chunk_rows: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    compressors: Any = (),
    overwrite: bool = False,
    resume: bool = False,
    after_step: int | None = None,
    missing: Missing = "fail",
    flush_every: int | None = None,
    fsync: bool = False,
    declared: Mapping[str, Any] | None = None,
    boxes: Mapping[str, Mapping[str, Any]] | None = None,
) -> LogWriter:
    """Create a gradient log of format 1 at `path`, or go on with one; returns its writer, a context manager.

    Rows of large tensors are written as they come, each row as chunks of its own. Those of small tensors are
    gathered in memory (at most 56 MiB with a row, or half a row) into chunks of `flush_every` rows, or of an
    even part of them. No chunk of a gradient is written again once its rows were committed, but for one that
    `flush` or `close` wrote unfinished: that is replaced whole by one with the same rows and more.

    Parameters
    ----------
    path : folder to create, or with `resume` to go on with; or its URL (s3://, gs://, az://)
    attributes : free metadata (model, optimizer, ...), anything that JSON holds; a log that is resumed keeps
        its own, and those of the same name get the new value
    chunk_rows : rows in a chunk of every tensor, all held in memory before they are written; by default one
        for large tensors and up to `flush_every` for small ones; a log that is resumed keeps its own
    chunk_bytes : size of a chunk aimed at
    compressors : Zarr codecs put before the checksum; none by default, since gradients hardly shrink
    overwrite : replace the Zarr store at `path`; anything else there is left alone
    resume : go on behind the last committed row of the log at `path`, which `create_log` wrote; rows that
        were never committed are cut. Where nothing is at `path`, or no row was committed, a log begins: the
        same line serves the first start and every other
    after_step : with `resume`, training step of the checkpoint that training goes on from: rows of later
        steps are cut first, for good
    missing : "fail" refuses a row without the gradient of a tensor that earlier rows have, or with that of
        one that they lack. "zero" stores zeros for the one, and opens the other with zeros for all rows
        before, which writes as many bytes at once; None counts as missing. Rows filled so are noted in the
        tensor's array, as the attribute {"gradlog": {"absent_rows": [[first, last], ...]}}
    flush_every : rows are committed whenever so many are not, and so many at most are lost by a kill; 16 by
        default, and `chunk_rows` where that is given
    fsync : rows count as committed once they are on the disk, so that not even a machine that stops loses
        them; each commit then waits for the disk; of a bucket it is refused
    declared : what the root's attribute `gradlog` says beside the version, such as the rank of one of several
        processes that each write a part; a log that is resumed has to say the same
    boxes : by name of a tensor, what the attribute `gradlog` of its array says

    Raises
    ------
    UsageError : something is at `path` and neither `overwrite` nor `resume` is set, or it is no Zarr store,
        or no log that can be resumed; somebody else is writing it; an option or attribute is none
    DataError : the log to resume is damaged; a service refuses
    OSError : the system refuses to write
    """
    folder = _folder_at(path, fsync)
    try:
        if (chunk_rows is not None and chunk_rows < 1) or chunk_bytes < 1:
            raise UsageError("chunk_rows and chunk_bytes must be at least 1")
        if flush_every is not None and flush_every < 1:
            raise UsageError("flush_every must be at least 1")
        if overwrite and resume:
            raise UsageError("overwrite replaces a log and resume keeps it: choose one")
        if after_step is not None and not resume:
            raise UsageError("after_step says where to resume: it needs resume=True")
        if missing not in ("fail", "zero"):
            raise UsageError(f"missing is 'fail' or 'zero', not {missing!r:.40}")
        last_kept = None if after_step is None else whole_step("after_step", after_step)
        stored = json_attributes(attributes or {})
        marks = {name: json_attributes(box) for name, box in (boxes or {}).items()}
        mark = {"version": FORMAT_VERSION, **json_attributes(declared or {})}
    except UsageError as error:
        raise UsageError(f"{folder.path}: {error}") from None
    codecs = tuple(compressors) if isinstance(compressors, (list, tuple)) else (compressors,)
    begins = folder.occupy(overwrite=overwrite, resume=resume)
    try:
        rows = None
        if begins:
            _begin(folder, {**stored, "gradlog": mark})
        else:
            from .resuming import resume_log  # deferred, with zarr-python: a new log needs neither

            rows = resume_log(folder, stored, mark, chunk_rows, last_kept)
    except BaseException:
        folder.release()
        raise
    layout = Layout(chunk_bytes, codecs)
    return LogWriter(folder, layout, chunk_rows, flush_every, missing, marks, rows)


def _folder_at(path: str | os.PathLike[str], fsync: bool) -> LogFolder:
    """Raises UsageError for a URL that no log can be written to, and DataError for a path that is none."""
    place = growing_place(path)
    if isinstance(place, Path):
        return LocalFolder(place, fsync)
    if fsync:
        raise UsageError(f"{place}: fsync is of disks, and a bucket keeps what it has taken: leave fsync out")
    from .bucket_folder import BucketFolder  # deferred, with zarr-python

    return BucketFolder(place, current_access())


def _begin(folder: LogFolder, attributes: Mapping[str, Any]) -> None:
    """Make the group of a log without rows."""
    group = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    with naming(folder.path):
        folder.put(METADATA, (json.dumps(group, indent=2).encode(),))
        folder.wait()


class LogWriter:
    """Appends rows to a log; rows count as committed once `flush` or `close` has written their `step`.

    What `append`, `flush` or `close` raises leaves the rows as they were: mend the cause and call again.
    """

    def __init__(
        self,
        folder: LogFolder,
        layout: Layout,
        chunk_rows: int | None,
        flush_every: int | None,
        missing: Missing,
        boxes: Mapping[str, dict[str, Any]],
        stored: StoredRows | None,
    ) -> None:
        self.path = folder.path
        self._folder = folder
        self._layout = layout
        self._chunk_rows = chunk_rows
        self._flush_every = flush_every or chunk_rows or FLUSH_EVERY
        self._missing = missing
        self._boxes = boxes
        self._room = GATHERED_BYTES  # for rows of small tensors
        self._arrays: dict[str, StoredArray] = {}
        self._tensors: dict[str, StoredArray] = {}  # of them, by names
        self._series: set[str] = set()
        self._step: StoredArray | None = None
        self._rows = 0
        self._committed = 0
        self._last_step: int | None = None
        self._cut = stored is not None  # chunks may hold rows that were cut
        self._open = True
        if stored is not None:
            self._keep(stored.arrays)
            self._step = stored.step
            self._rows = self._committed = stored.rows
            self._last_step = stored.last_step
            tall = max(array.height for array in self._tensors.values())
            self._flush_every = flush_every or (tall if tall > 1 else FLUSH_EVERY)

    @property
    def rows(self) -> int:
        """Rows of the log, those included that are not committed yet."""
        return self._rows

    @property
    def committed(self) -> int:
        """Rows that a reader finds, and a kill leaves."""
        return self._committed

    @property
    def last_step(self) -> int | None:
        """Training step of the last row; None without rows."""
        return self._last_step

    def append(self, step: int, gradients: Mapping[str, ArrayLike | None], /, **series: float) -> None:
        """Add one row: the gradients of every tensor at training step `step`, and scalars such as loss.

        step : a whole number that int64 holds, greater than that of the row before
        gradients : by name, an array of numbers, of any shape but with at least one entry. float16, float32,
            float64 and bfloat16 (of ml_dtypes or PyTorch) are kept as they are; anything else that NumPy can
            turn into float32 is. Tensors of PyTorch may lie on any device. Names may hold dots and slashes,
            as paths of nested groups do; no part between slashes may be empty, `.` or `..`, and no name may
            be the folder of another
        series : by name, one number each; NaN and infinity are numbers

        The first row fixes the tensors, their shapes and dtypes, and the series; the later ones must match,
        but for what `create_log(..., missing="zero")` fills.

        Raises
        ------
        UsageError : the row doesn't match, or a value is none of the above
        OSError : a chunk that this row fills cannot be written
        In both cases the row was not added: append it again once the cause is gone.
        """
        number, row = self._begin_row(step, gradients, series)
        with naming(self.path):
            for name in sorted(row.keys() - self._arrays.keys()):
                self._open_late(name, *row[name])
            for name, array in self._arrays.items():
                array.take(self._folder, self._rows, row[name][0] if name in row else None)
        self._end_row(number)

    def append_read(
        self,
        step: int,
        like: Mapping[str, NDArray[Any]],
        read: Callable[[str], NDArray[Any]],
        pool: Executor,
        /,
        **series: float,
    ) -> None:
        """Add one row whose gradients are read only now, each by a thread that writes it next.

        like : by name, an array of the dtype and shape of each gradient, whatever its entries
        read : gives a gradient by its name, bfloat16 as its bits; asked once for each, by the pool's threads

        Raises what `read` raises; otherwise as `append`.
        """
        number, row = self._begin_row(step, like, series)
        with naming(self.path):
            for name in self._series:
                self._arrays[name].take(self._folder, self._rows, row[name][0])

        def take(arrays: Sequence[StoredArray]) -> None:
            for array in arrays:
                value = read(array.title)
                if (value.shape, value.dtype) != (array.shape, array.rows.dtype):
                    raise UsageError(
                        f"{self.path}: row {self.rows}: {_other(array, value, value.dtype.name)}"
                    )
                with naming(self.path):
                    array.take(self._folder, self._rows, value)

        tasks = list(_tasks(self._tensors.values()))
        if len(tasks) == 1:
            take(tasks[0])
        else:
            under_way = [pool.submit(take, arrays) for arrays in tasks]
            try:
                for each in under_way:
                    each.result()
            finally:
                for each in under_way:
                    each.cancel()
                wait(under_way)  # they read what is closed next, and write what may be removed
        self._end_row(number)

    def _begin_row(
        self, step: int, gradients: Mapping[str, ArrayLike | None], series: Mapping[str, float]
    ) -> tuple[int, _Row]:
        """As `_checked`, of a log that is ready to take it."""
        if not self._open:
            raise UsageError(f"{self.path}: the log is closed")
        try:
            number, row = self._checked(step, gradients, series)
        except UsageError as error:
            raise UsageError(f"{self.path}: row {self.rows}: {error}") from None
        with naming(self.path):
            if self._step is None:
                self._create(row)
            if self._rows - self._committed >= self._flush_every:  # an interrupt fell into the last commit
                self.flush()
        return number, row

    def _end_row(self, number: int) -> None:
        """Count the row that all arrays took. number : its training step"""
        assert self._step is not None
        with naming(self.path):
            self._step.take(self._folder, self._rows, np.asarray(number, np.int64))
            self._folder.wait()
        before = self._last_step
        self._rows, self._last_step = self._rows + 1, number
        if self._rows % self._flush_every == 0:
            try:
                self.flush()
            except Exception:
                self._rows, self._last_step = self._rows - 1, before
                raise

    def flush(self) -> None:
        """Commit all rows appended so far.

        Raises OSError when they cannot be written; they are held on, and the next call writes them.
        """
        if self._step is None or (self._rows == self._committed and not self._cut):
            return
        with naming(self.path):
            for array in self._arrays.values():
                array.finish(self._folder, self._rows)
            self._folder.wait()
            for array in self._arrays.values():
                array.commit(self._folder, self._committed, self._rows)
            self._folder.settle()
            self._step.finish(self._folder, self._rows)
            self._folder.wait()
            self._step.commit(self._folder, self._committed, self._rows)
            self._folder.settle()
        self._committed, self._cut = self._rows, False
        for array in self._arrays.values():
            array.absent.clear()

    def close(self) -> None:
        """Write and commit what is held, and end the log. Raises as `flush`; the log then stays open."""
        if self._open:
            self.flush()
            self._open = False
            self._folder.release()

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"{self.path}: its last rows could not be written either: {failure}")

    def _checked(
        self, step: int, gradients: Mapping[str, ArrayLike | None], series: Mapping[str, float]
    ) -> tuple[int, _Row]:
        """The training step, and the row by the arrays' paths: values and names of their dtypes."""
        number = whole_step("the training step", step)
        if self._last_step is not None and number <= self._last_step:
            raise UsageError(
                f"training step {number} comes after {self._last_step}, and steps must grow; to go on from a "
                "checkpoint at step S, resume the log: create_log(..., resume=True, after_step=S)"
            )
        row = self._known_row(gradients)
        if row is None:
            row = self._checked_row(gradients, series)
        elif series.keys() != self._series:
            check_names((), series)
        if self._step is not None and series.keys() != self._series:
            told, named = self._series, series.keys()
            for odd, how in ((told - named, "this one lacks"), (named - told, "those before lack")):
                if odd:
                    raise UsageError(f"every row needs the same series, and {how} {_listed(odd)}")
        row |= {name: (scalar(name, value), "float64") for name, value in series.items()}
        return number, row

    def _known_row(self, gradients: Mapping[str, ArrayLike | None]) -> _Row | None:
        """The row, where it has all tensors of those before, as they are stored; None for any other."""
        if self._step is None or gradients.keys() != self._tensors.keys():
            return None
        row = {}
        for name, array in self._tensors.items():
            value = gradients[name]
            if (
                type(value) is not np.ndarray
                or value.dtype is not array.rows.dtype
                or value.shape != array.shape
                or array.dtype == BFLOAT16
            ):
                return None
            row[array.name] = (value, array.dtype)
        return row

    def _checked_row(self, gradients: Mapping[str, ArrayLike | None], series: Mapping[str, float]) -> _Row:
        given = {name: value for name, value in gradients.items() if value is not None}
        row = {f"{GRADS}/{name}": gradient(name, value) for name, value in given.items()}
        if not given and (self._missing == "zero" or not gradients):
            raise UsageError("a row needs the gradient of at least one tensor")
        known = set(self._tensors)
        if self._missing == "fail":
            self._refuse_gaps(known, set(gradients), set(given))
        check_names(known | set(given), series)
        for name in row.keys() & self._arrays.keys():
            (value, dtype), array = row[name], self._arrays[name]
            if (value.shape, dtype) != (array.shape, array.dtype):
                raise UsageError(_other(array, value, dtype))
        return row

    def _refuse_gaps(self, known: set[str], named: set[str], given: set[str]) -> None:
        """known : tensors of the rows before; named : of this row; given : those of them that are not None"""
        cure = (
            "create_log(..., missing='zero') has zeros stored, or log only parameters that have a gradient "
            "in every row"
        )
        if lost := known - given:
            raise UsageError(f"no gradient of {_listed(lost)}, which the rows before have: {cure}")
        if empty := named - given:
            raise UsageError(f"the gradient of {_listed(empty)} is None: {cure}")
        if self._step is not None and (new := given - known):
            raise UsageError(f"the rows before have no gradient of {_listed(new)}: {cure}")

    def _create(self, row: _Row) -> None:
        tensors = {name: value for name, (value, _) in row.items() if name.startswith(f"{GRADS}/")}
        sizes = {name: value.nbytes for name, value in tensors.items()}
        row_bytes = sum(sizes.values())
        self._room = max(GATHERED_BYTES - row_bytes, row_bytes // 2)
        heights = self._heights(sizes)
        arrays = {}
        for name, (value, dtype) in row.items():
            height = heights.get(name, self._chunk_rows or SERIES_ROWS)
            arrays[name] = self._new(name, height, value, dtype)
        step = np.zeros((), np.int64)
        stored = self._new(STEP, self._chunk_rows or SERIES_ROWS, step, "int64")
        self._folder.wait()  # rows come behind `step`: without one a log would seem to have lost it
        self._step = stored
        self._keep(arrays)

    def _keep(self, arrays: Mapping[str, StoredArray]) -> None:
        for name, array in arrays.items():
            self._arrays[name] = array
            if name.startswith(f"{GRADS}/"):
                self._tensors[array.title] = array
            else:
                self._series.add(name)

    def _new(self, name: str, height: int, value: NDArray[Any], dtype: str) -> StoredArray:
        box = self._boxes.get(name.removeprefix(f"{GRADS}/"))
        return self._layout.create(self._folder, name, height, value, dtype, box)

    def _heights(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Rows of a chunk of new tensors. sizes : bytes of a row"""
        if self._chunk_rows is not None:
            return dict.fromkeys(sizes, self._chunk_rows)
        heights = dict.fromkeys(sizes, 1)
        for name in sorted(sizes, key=lambda name: (sizes[name], name)):
            most = min(self._room, self._layout.chunk_bytes) // sizes[name]
            # What is committed together fills whole chunks.
            height = max((h for h in range(2, most + 1) if self._flush_every % h == 0), default=1)
            if height == 1:
                break
            self._room -= height * sizes[name]
            heights[name] = height
        return heights

    def _open_late(self, name: str, value: NDArray[Any], dtype: str) -> None:
        """A tensor that earlier rows lack: it is in the log from here on, whatever becomes of this row."""
        height = self._heights({name: value.nbytes})[name]
        box = self._boxes.get(name.removeprefix(f"{GRADS}/"))
        array = self._layout.create_behind(self._folder, name, height, value, dtype, self._rows, box)
        array.absent.update(range(self._committed, self._rows))
        self._keep({name: array})


def _tasks(arrays: Iterable[StoredArray]) -> Iterator[list[StoredArray]]:
    """Arrays in groups of rows of TASK_BYTES, or of one."""
    group: list[StoredArray] = []
    size = 0
    for array in arrays:
        group.append(array)
        size += math.prod(array.shape) * array.rows.itemsize
        if size >= TASK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _other(array: StoredArray, value: NDArray[Any], dtype: str) -> str:
    """What is wrong with a value of another shape or dtype."""
    return (
        f"'{array.title}' is {dtype}{list(value.shape)}, in the rows before it is "
        f"{array.dtype}{list(array.shape)}"
    )


def _listed(names: set[str]) -> str:
    return shown([f"'{name}'" for name in sorted(names)], 4)
