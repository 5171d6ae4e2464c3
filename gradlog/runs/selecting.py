"""What settings select: how a log is opened, which of its tensors and rows are taken."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError, UsageError
from ..logs.log import GradientLog, Tensor, chosen_names
from ..logs.opening import Run, open_log, opening_of
from ..logs.store import codec_pipeline
from ..naming import matching, shown
from ..processors import available_processors
from ..results.result import LogWarning, Settings


def open_for_pass(run: Run, settings: Settings, threads: int | None) -> GradientLog:
    """The log, opened so that its chunks are decoded by the fastest codecs there are."""
    with codec_pipeline(threads or available_processors()):
        return open_as_asked(run, settings)


def open_as_asked(run: Run, settings: Settings) -> GradientLog:
    """`open_log`, with what the settings say of which arrays and tensors count."""
    return open_log(run, **opening_of(settings))


def select_tensors(log: GradientLog, settings: Settings) -> tuple[list[Tensor], list[LogWarning]]:
    """The tensors of `log` that the settings select, in order, and what to mind.

    Raises UsageError where a pattern of `tensors` matches none, or none is left, and DataError where one that
    is wanted cannot be read. What is to be left out may be in other runs only: that is a warning.
    """
    names = [*(tensor.name for tensor in log.tensors), *log.faults]
    known = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")

    for pattern in settings.tensors:
        if not matching([pattern], names):
            raise UsageError(f"{log.path}: no tensor matches {pattern!r}; there are {known}")
    warnings = []
    for pattern in settings.exclude:
        if not matching([pattern], names):
            told = f"nothing to exclude: no tensor matches {pattern!r}; there are {known}"
            warnings.append(LogWarning("nothing-excluded", told))
    wanted = chosen_names(names, settings.tensors, settings.exclude)
    if not wanted:
        raise UsageError(f"{log.path}: every tensor is excluded")
    log.check(wanted)
    tensors = [tensor for tensor in log.tensors if tensor.name in wanted]
    return tensors, [*warnings, *_empty_warnings(log, tensors)]


def _empty_warnings(log: GradientLog, tensors: Sequence[Tensor]) -> list[LogWarning]:
    """Tensors without entries hold nothing of a parameter. Raises DataError where all are so."""
    empty = [tensor.name for tensor in tensors if not tensor.parameters]
    if not empty:
        return []
    cure = "parameters that are partitioned (FSDP, ZeRO-3) have to be gathered"
    told = f"without any entry: {shown(empty, 4)}; {cure}"
    if len(empty) == len(tensors):
        raise DataError(f"{log.path}: all tensors are {told} before they are logged")
    return [LogWarning("tensors-empty", f"tensors {told}")]


def select_rows(log: GradientLog, settings: Settings) -> tuple[int, int]:
    """(first, last + 1) of the rows that the settings select. Raises UsageError where they select none."""
    first, last, _ = slice(*settings.rows).indices(log.rows)
    if first >= last:
        start, stop = ("" if end is None else str(end) for end in settings.rows)
        raise UsageError(f"{log.path}: rows {start}:{stop} select none of its {log.rows} rows")
    return first, last
