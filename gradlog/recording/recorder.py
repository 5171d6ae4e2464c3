"""Takes a row whenever its optimizers step: copies gradients, and leaves the rest to another thread."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ..errors import UsageError
from ..quick_dataclass import dataclass
from .row_gathering import Missing, RowGathering
from .row_series import DROPPED, MISSING, RowSeries, differ, learning_rates
from .row_slot import RowSlot
from .row_writer import SKIPPED, Row, RowWriter
from .step_hooks import hook_steps, is_skipped

WhenFull = Literal["wait", "drop"]
Nonfinite = Literal["keep", "skip"]

MOST_AHEAD = 100
"""Steps that one optimizer makes while another makes none, at most: then no row ever ends."""
_CHOICES = {
    "missing": ("zero", "hold", "error"),
    "when_full": ("wait", "drop"),
    "nonfinite": ("keep", "skip"),
}


@dataclass(frozen=True)
class Taking:
    """How rows are taken, as the arguments of `record` of the same names say."""

    every: int
    missing: Missing
    when_full: WhenFull
    nonfinite: Nonfinite

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError("every must be at least 1")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                words = " or ".join(repr(word) for word in known)
                raise UsageError(f"{name} is {words}, not {getattr(self, name)!r:.40}")

    @property
    def counts(self) -> list[str]:
        """Series that say what became of rows and gradients."""
        kept = {
            MISSING: self.missing != "error",
            DROPPED: self.when_full == "drop",
            SKIPPED: self.nonfinite == "skip",
        }
        return [name for name, is_kept in kept.items() if is_kept]


@dataclass(frozen=True)
class _Step:
    """A training step that was made. row : for the log, without what is noted; None for nothing"""

    row: Row | None


class Recorder:
    """Takes a row of the steps of its optimizers until it is closed. Made by `record`.

    A context manager: leaving it closes the log, however the loop ended. One that is never closed is when its
    optimizers are gone, or when the program ends, and what goes wrong then is a warning.
    """

    def __init__(
        self,
        path: Path | str,
        optimizers: Sequence[Any],
        gathering: RowGathering,
        writer: RowWriter | None,
        taking: Taking,
        series: RowSeries,
        step: int,
    ) -> None:
        """writer : None where another process records; step : training step of the first step"""
        self.path = path
        self._optimizers = optimizers
        self._gathering = gathering
        self._writer = writer
        self._taking = taking
        self._series = series
        self._step = step
        self._taken = 0 if writer is None else writer.committed
        self._dropped = 0
        self._since = 0  # rows dropped since the last that was taken
        self._steps = [0] * len(optimizers)  # of each, since the last that all made
        self._ended = 0  # steps that all made
        self._slot: RowSlot | None = None  # of the row in work
        self._is_full = False  # there is no slot for it
        self._all_rates: bool | None = None
        self._made: _Step | None = None
        self._waits = False
        self._closed = False
        self._handles = hook_steps(optimizers, self._take)
        if writer is not None:
            # Not bound to this recorder, which the finalizer outlives.
            weakref.finalize(self, writer.end_unseen).atexit = False

    @property
    def step(self) -> int:
        """Training step of the next step."""
        return self._step

    @property
    def rows(self) -> int:
        """Rows of the log and on their way to it; 0 where another process records."""
        return self._taken - self.skipped

    @property
    def dropped(self) -> int:
        """Rows left out because the disk was too slow."""
        return self._dropped

    @property
    def skipped(self) -> int:
        """Rows left out because they held NaN or infinity."""
        return 0 if self._writer is None else self._writer.skipped

    def note(self, **series: Any) -> None:
        """Put numbers beside the gradients of the step to come: loss, grad_norm, loss_scale, ...

        Each is a number or a tensor of one entry, on any device. The first row fixes the names: one that is
        not noted for a later row is NaN there, and a new one is refused unless `record(..., series=)` named
        it. What is noted for a step that `every` leaves out is dropped. `lr` is recorded by itself, of the
        first group of parameters, and beside it lr.1, lr.2, ... of the others where theirs differ in the
        first row. Once the recorder is closed, nothing happens.

        Raises UsageError for a name or a value that no series can have.
        """
        if not self._closed:
            with of_log(self.path):
                self._series.note(series)

    def flush(self) -> None:
        """Commit the rows of all steps made so far.

        To be called before a checkpoint is saved: then the log holds all that comes before it.

        Raises RecordingError where a row could not be written.
        """
        self.hand_over()
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Take no more rows, write those that were taken, and close the log.

        Raises
        ------
        RecordingError : a row could not be written
        UsageError : no row was ever complete, since one of several optimizers made no step
        """
        self._close(is_told=False)

    def _close(self, is_told: bool) -> None:
        """is_told : the loop ended with an error already"""
        if self._closed:
            return
        for handle in self._handles:
            handle.remove()
        self.hand_over()
        self._closed = True
        if self._writer is not None:
            self._writer.end(is_told)
        if not self._ended and any(self._steps) and not is_told:
            raise self._never_complete()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close(is_told=error is not None)
        except Exception as failure:
            if error is None:
                raise
            error.add_note(str(failure))

    def wait_for_notes(self) -> None:
        """Let rows wait behind their step for notes from now on: until `hand_over`, or else the next step."""
        self._waits = True

    def hand_over(self) -> None:
        """Have the row of the last step written, with what was noted until now."""
        made, self._made = self._made, None
        if made is None:
            return
        if made.row is None or self._writer is None:
            self._series.forget()
            return
        self._writer.put(replace(made.row, series=self._series.take(made.row.series)))
        self._taken += 1

    def _take(self, number: int, optimizer: Any) -> None:
        """Optimizer `number` is about to step with the gradients that are there."""
        if self._closed:
            return
        if self._writer is not None:
            self._writer.check()
        if is_skipped(optimizer):
            return
        self.hand_over()
        if self._writer is not None and self._step % self._taking.every == 0:
            self._copy(optimizer, self._writer)
        self._steps[number] += 1
        if all(self._steps):
            self._end_step()
        elif self._steps[number] > MOST_AHEAD:
            raise self._never_complete()

    def _copy(self, optimizer: Any, writer: RowWriter) -> None:
        if self._slot is None and not self._is_full:
            self._slot = writer.slot(wait=self._taking.when_full == "wait")
            self._is_full = self._slot is None
        if self._slot is not None:
            with of_log(self.path, f"training step {self._step}: "):
                self._gathering.copy(optimizer, self._slot)

    def _end_step(self) -> None:
        """All optimizers step."""
        row = None
        if self._slot is not None:
            gathered = self._gathering.finish(self._slot)
            if self._all_rates is None:
                self._all_rates = differ(self._optimizers)
            series = {
                **learning_rates(self._optimizers, self._all_rates),
                MISSING: gathered.missing,
                DROPPED: self._since,
            }
            row = Row(self._step, self._slot, gathered, series)
            self._since = 0
        elif self._is_full:
            self._dropped += 1
            self._since += 1
        self._made = _Step(row)
        self._slot, self._is_full = None, False
        self._steps = [0] * len(self._steps)
        self._ended += 1
        self._step += 1
        if not self._waits:
            self.hand_over()

    def _never_complete(self) -> UsageError:
        kinds = [type(optimizer).__name__ for optimizer in self._optimizers]
        idle = self._steps.index(0)
        most = self._steps.index(max(self._steps))
        return UsageError(
            f"{self.path}: a row is complete when all {len(kinds)} optimizers have stepped, and number "
            f"{most} ({kinds[most]}) made {self._steps[most]} steps while number {idle} ({kinds[idle]}) made "
            "none: record them in logs of their own, or leave that one out"
        )


@contextlib.contextmanager
def of_log(path: Path | str, where: str = "") -> Iterator[None]:
    """Let errors say which log they are of, and where in it, unless they do."""
    try:
        yield
    except UsageError as error:
        if str(error).startswith(str(path)):
            raise
        raise UsageError(f"{path}: {where}{error}") from None
