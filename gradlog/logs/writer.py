"""Write a gradient log of format 1, synchronously: tensors first, `step` last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import Crc32cCodec

from ..errors import UsageError
from ..naming import shown
from .atomic_store import PARTIAL, writing
from .log import FORMAT_VERSION, GRADS, STEP
from .new_array import CHUNK_BYTES
from .resuming import StoredRows, is_blank, resume_log
from .root_keys import is_zarr_node
from .row_values import check_names, gradient, json_attributes, scalar, whole_step
from .stored_array import Layout, StoredArray

BUFFER_BYTES = 256 << 20
MOST_CHUNK_ROWS = 256
"""A longer chunk would mostly be padding in a short log of small tensors."""

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
) -> LogWriter:
    """Create a gradient log of format 1 at `path`, or go on with one; returns its writer, a context manager.

    Parameters
    ----------
    path : folder to create, or with `resume` to go on with
    attributes : free metadata (model, optimizer, ...), anything that JSON holds; a log that is resumed keeps
        its own, and those of the same name get the new value
    chunk_rows : rows in a chunk, and rows kept in memory before they are written; by default as many as
        `chunk_bytes` holds of the largest tensor, between 16 and 256, within 256 MiB for all tensors of the
        first row; a log that is resumed keeps its own
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
        before, which writes as many bytes at once, and holds one more chunk in memory; None counts as
        missing. Rows filled so are noted in the tensor's array, as the attribute
        {"gradlog": {"absent_rows": [[first, last], ...]}}

    Raises
    ------
    UsageError : something is at `path` and neither `overwrite` nor `resume` is set, or it is no Zarr store,
        or no log that can be resumed; an option or attribute is none
    DataError : the log to resume is damaged
    OSError : the system refuses to write
    """
    place = Path(path)
    try:
        if (chunk_rows is not None and chunk_rows < 1) or chunk_bytes < 1:
            raise UsageError("chunk_rows and chunk_bytes must be at least 1")
        if overwrite and resume:
            raise UsageError("overwrite replaces a log and resume keeps it: choose one")
        if after_step is not None and not resume:
            raise UsageError("after_step says where to resume: it needs resume=True")
        if missing not in ("fail", "zero"):
            raise UsageError(f"missing is 'fail' or 'zero', not {missing!r:.40}")
        last_kept = None if after_step is None else whole_step("after_step", after_step)
        stored = json_attributes(attributes or {})
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    codecs = tuple(compressors) if isinstance(compressors, (list, tuple)) else (compressors,)
    rows = None
    if resume and not is_blank(place):
        rows = resume_log(place, stored, chunk_rows, last_kept)
    else:
        _begin(place, stored, overwrite, resume)
    return LogWriter(place, chunk_rows, chunk_bytes, (*codecs, Crc32cCodec()), missing, rows)


def _begin(path: Path, attributes: Mapping[str, Any], overwrite: bool, resume: bool) -> None:
    """Make the group of a log without rows."""
    if path.exists() and not resume:
        if not overwrite:
            raise UsageError(f"{path}: already there; choose another path, resume or overwrite it")
        if not _is_store(path):
            raise UsageError(
                f"{path}: not a Zarr store, so not overwritten; remove it or choose another path"
            )
        shutil.rmtree(path)
    elif path.exists():
        for place in path.glob(f"*{PARTIAL}"):
            place.unlink()
    with writing(path, path) as store:
        marked = {**attributes, "gradlog": {"version": FORMAT_VERSION}}
        zarr.create_group(store, zarr_format=3, attributes=marked)


def _is_store(path: Path) -> bool:
    """A folder with Zarr's metadata, or an empty one: nothing else is ever deleted."""
    if not path.is_dir():
        return False
    return is_zarr_node(path) or not any(path.iterdir())


class LogWriter:
    """Appends rows to a log; rows count as committed once `flush` or `close` has written their `step`.

    What `append`, `flush` or `close` raises leaves the rows as they were: mend the cause and call again.
    """

    def __init__(
        self,
        path: Path,
        chunk_rows: int | None,
        chunk_bytes: int,
        codecs: tuple[Any, ...],
        missing: Missing,
        stored: StoredRows | None,
    ) -> None:
        self.path = path
        self._chunk_rows = chunk_rows
        self._chunk_bytes = chunk_bytes
        self._codecs = codecs
        self._missing = missing
        self._arrays: dict[str, StoredArray] = {}
        self._step: StoredArray | None = None
        self._first = 0  # row of the log that the unfinished chunk begins with
        self._held = 0
        self._saved = 0  # of the rows held, those that are in the store as they are here
        self._last_step: int | None = None
        self._open = True
        if stored is not None:
            self._arrays, self._step = stored.arrays, stored.step
            self._first, self._held, self._last_step = stored.first, stored.held, stored.last_step

    @property
    def rows(self) -> int:
        """Rows of the log, those included that are held in memory."""
        return self._first + self._held

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
        OSError : the chunk that this row fills cannot be written
        In both cases the row was not added: append it again once the cause is gone.
        """
        if not self._open:
            raise UsageError(f"{self.path}: the log is closed")
        try:
            number, row = self._checked(step, gradients, series)
        except UsageError as error:
            raise UsageError(f"{self.path}: row {self.rows}: {error}") from None
        if self._step is None:
            self._create(row)
        assert self._step is not None
        if self._held == self._step.rows.shape[0]:  # an interrupt fell into the last flush
            self.flush()
        for name in sorted(row.keys() - self._arrays.keys()):
            self._open_late(name, *row[name])
        for name, array in self._arrays.items():
            array.take(self._held, row[name][0] if name in row else None)
        self._step.take(self._held, np.asarray(number, np.int64))
        before = self._last_step
        self._held, self._last_step = self._held + 1, number
        if self._held == self._step.rows.shape[0]:
            try:
                self.flush()
            except Exception:
                self._held, self._last_step = self._held - 1, before
                raise

    def flush(self) -> None:
        """Write the rows held in memory and commit them.

        Raises OSError when they cannot be written; they are held on, and the next call writes them.
        """
        if self._step is None or self._held == self._saved:
            return
        with writing(self.path, self.path) as store:
            for array in (*self._arrays.values(), self._step):
                array.write(store, self._first, self._held)
        if self._held == self._step.rows.shape[0]:
            self._first, self._held, self._saved = self._first + self._held, 0, 0
        else:  # they stay held, and the unfinished chunk is written whole again with what follows
            self._saved = self._held

    def close(self) -> None:
        """Write and commit what is held, and end the log. Raises as `flush`; the log then stays open."""
        if self._open:
            self.flush()
            self._open = False

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
        given = {name: value for name, value in gradients.items() if value is not None}
        row = {f"{GRADS}/{name}": gradient(name, value) for name, value in given.items()}
        if not given and (self._missing == "zero" or not gradients):
            raise UsageError("a row needs the gradient of at least one tensor")
        known = {array.title for name, array in self._arrays.items() if name.startswith(f"{GRADS}/")}
        if self._missing == "fail":
            self._refuse_gaps(known, set(gradients), set(given))
        check_names(known | set(given), series)
        if self._step is not None:
            told = {name for name in self._arrays if not name.startswith(f"{GRADS}/")}
            for odd, how in (
                (told - set(series), "this one lacks"),
                (set(series) - told, "those before lack"),
            ):
                if odd:
                    raise UsageError(f"every row needs the same series, and {how} {_listed(odd)}")
        row |= {name: (scalar(name, value), "float64") for name, value in series.items()}
        for name in row.keys() & self._arrays.keys():
            (value, dtype), array = row[name], self._arrays[name]
            if (value.shape, dtype) != (array.shape, array.dtype):
                raise UsageError(
                    f"'{array.title}' is {dtype}{list(value.shape)}, in the rows before it is "
                    f"{array.dtype}{list(array.shape)}"
                )
        return number, row

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
        row_bytes = sum(value.nbytes for value in tensors.values())
        largest = max(value.nbytes for value in tensors.values())
        by_size = min(max(16, self._chunk_bytes // largest), BUFFER_BYTES // row_bytes, MOST_CHUNK_ROWS)
        layout = Layout(self._chunk_rows or max(1, by_size), self._chunk_bytes, self._codecs)
        with writing(self.path, self.path) as store:
            arrays = {name: layout.create(store, name, *value) for name, value in row.items()}
            step = layout.create(store, STEP, np.zeros((), np.int64), "int64")
        self._arrays, self._step = arrays, step

    def _open_late(self, name: str, value: NDArray[Any], dtype: str) -> None:
        """A tensor that earlier rows lack: it is in the log from here on, whatever becomes of this row."""
        assert self._step is not None
        layout = Layout(self._step.rows.shape[0], self._chunk_bytes, self._codecs)
        self._arrays[name] = layout.create_behind(self.path, name, value, dtype, self.rows)


def _listed(names: set[str]) -> str:
    return shown([f"'{name}'" for name in sorted(names)], 4)
