"""The thread that writes rows while training goes on: a bounded number of rows, and no error lost."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
import warnings
from dataclasses import field
from multiprocessing import util
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import GradmfError, first_line
from ..logs.writer import LogWriter
from ..measures.sketch.row_projection import RowProjection
from ..quick_dataclass import dataclass
from .last_row import LastRow
from .row_gathering import Gathered
from .row_slot import RowSlot

SKIPPED = "skipped"
"""Series: rows with NaN or infinity that were left out since the row before."""


class RecordingError(GradmfError, RuntimeError):
    """A row could not be written. The cause is what the writer raised."""


@dataclass(frozen=True)
class Row:
    """One row on its way to the log.

    slot : holds the gradients that were gathered; series : numbers, or tensors of one entry on a GPU
    """

    step: int
    slot: RowSlot
    gathered: Gathered
    series: dict[str, Any]


@dataclass
class _Flush:
    """Asks for all rows taken so far to be committed. done : they are, or cannot be"""

    done: threading.Event = field(default_factory=threading.Event)


class RowWriter:
    """Owns the log's writer and the thread that appends to it; knows nothing of what hands it rows."""

    def __init__(
        self,
        writer: LogWriter,
        slots: list[RowSlot],
        projection: RowProjection | None = None,
        skip_nonfinite: bool = False,
        last: LastRow | None = None,
    ) -> None:
        """slots : for rows that wait to be written; skip_nonfinite : leave out rows with NaN or infinity
        last : of the log where it is resumed
        """
        self.path = writer.path
        self.skipped = 0
        self._writer = writer
        self._projection = projection
        self._skip = skip_nonfinite
        self._last = last
        self._since = 0  # rows skipped since the last that was appended
        self._failure: tuple[int | None, Exception] | None = None
        self._told = False
        # Of the kind whose `put` may be called from a destructor.
        self._orders: SimpleQueue[Row | _Flush | None] = SimpleQueue()
        self._free: SimpleQueue[RowSlot] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._ended = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="gradmf-record", daemon=True)
        self._thread.start()
        atexit.register(self.end_unseen)
        self._finalizer = None
        if multiprocessing.parent_process() is not None:  # a forked process ends without atexit
            self._finalizer = util.Finalize(None, self.end_unseen, exitpriority=100)

    @property
    def committed(self) -> int:
        """Rows that a reader finds."""
        return self._writer.committed

    def slot(self, wait: bool) -> RowSlot | None:
        """A slot that is free; None where there is none and `wait` is False. Raises as `check`."""
        self.check()
        try:
            return self._free.get(block=wait)
        except Empty:
            return None
        finally:
            self.check()

    def give_back(self, slot: RowSlot) -> None:
        """A slot whose row came to nothing."""
        self._free.put(slot)

    def put(self, row: Row) -> None:
        """Hand a row over; its slot is free again once it is written."""
        self._orders.put(row)

    def flush(self) -> None:
        """Commit all rows handed over. Raises as `check`."""
        if not self._ended:
            order = _Flush()
            self._orders.put(order)
            order.done.wait()
        self.check()

    def check(self) -> None:
        """Raise RecordingError where a row could not be written."""
        if os.getpid() != self._process:
            raise RecordingError(f"{self.path}: recorded by another process, of which this one is a fork")
        if self._failure is None:
            return
        self._told = True
        step, cause = self._failure
        what = "its last rows" if step is None else f"the row of training step {step}"
        raise RecordingError(
            f"{self.path}: {what} could not be written: {self._reason(cause)}; {self.committed} rows are in "
            "it"
        ) from cause

    def end(self, told: bool = False) -> None:
        """Write what is left, commit it and close the log. Raises as `check`.

        told : an error that was raised before is not raised again
        """
        self._finish()
        if not (told and self._told):
            self.check()

    def _finish(self) -> None:
        if self._ended or os.getpid() != self._process:
            return
        self._ended = True
        atexit.unregister(self.end_unseen)
        if self._finalizer is not None:
            self._finalizer.cancel()
        self._orders.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def end_unseen(self) -> None:
        """`end` where nobody is left to catch an error: it becomes a warning."""
        self._finish()
        if os.getpid() == self._process and self._failure is not None and not self._told:
            try:
                self.check()
            except RecordingError as error:
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            step = order.step if isinstance(order, Row) else None
            try:
                if isinstance(order, Row):
                    if self._failure is None:
                        self._append(order)
                elif self._failure is None:
                    self._writer.flush()
            except Exception as error:
                self._failure = (step, error)
            finally:
                if isinstance(order, Row):
                    self._free.put(order.slot)
                else:
                    order.done.set()
                del order
        try:
            self._writer.close()
        except Exception as error:
            if self._failure is None:
                self._failure = (None, error)

    def _append(self, row: Row) -> None:
        row.slot.wait()
        gathered = row.gathered
        if self._skip and not all(row.slot.is_finite(name) for name in gathered.names):
            self._since += 1
            self.skipped += 1
            return
        gradients: dict[str, Any] = dict.fromkeys(gathered.absent)
        if self._last is not None:
            for name in gathered.names:
                self._last.drop(name)
            gradients |= {name: self._last.values(name) for name in gathered.held}
        for name in gathered.names:
            values = row.slot.values(name)
            gradients[name] = values if self._projection is None else self._projection.apply(name, values)
        series = {name: float(value) for name, value in row.series.items()}
        if self._skip:
            series[SKIPPED] = self._since
        self._writer.append(row.step, gradients, **series)
        self._since = 0

    def _reason(self, cause: Exception) -> str:
        """An error's first line, without the log; one of the system names the file and not its number."""
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}: {cause.filename}" if cause.filename else cause.strerror
        return first_line(cause).removeprefix(f"{self.path}: ")
