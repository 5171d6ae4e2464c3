"""Many runs: a task takes one of them whole, as one process does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..logs.log import GradientLog, Tensor, chosen_names
from ..logs.opening import open_log_as, opening_of
from ..logs.places.access import Access, reached_by
from ..logs.store import codec_pipeline
from ..quick_dataclass import dataclass
from ..results.result import Settings
from .cluster import parts_of_log, taken_by
from .failures import failure_of
from .here import ONE_AT_A_TIME, seen_from_worker, worker_threads
from .workers import Report

LARGE = 16
"""A run that would be cut into more parts is cut, and not taken by one task."""


@dataclass(frozen=True)
class RunTask:
    """function : of gradlog, that is called with the log, `settings` and `how`; others as of `PassTask`"""

    function: Callable[..., Any]
    path: str
    name: str
    access: Access
    settings: Settings
    how: Mapping[str, Any]


@dataclass(frozen=True)
class ToCut:
    """A run is too large for one task."""


def take_run(task: RunTask, report: Report) -> Any:  # noqa: ARG001
    """What the function makes of a log; errors are values."""
    with ONE_AT_A_TIME, reached_by(task.access), taken_by(None):
        try:
            threads = min(task.how.get("threads") or worker_threads(), worker_threads())
            settings = task.settings
            with codec_pipeline(threads), seen_from_worker(task.name):
                log = open_log_as(task.name, task.path, **opening_of(settings))
            if parts_of_log(_chosen(log, settings), log.rows) > LARGE:
                return ToCut()
            return task.function(log, settings, **{**task.how, "threads": threads})
        except Exception as error:
            return failure_of(error)


def _chosen(log: GradientLog, settings: Settings) -> list[Tensor]:
    names = chosen_names([tensor.name for tensor in log.tensors], settings.tensors, settings.exclude)
    return [tensor for tensor in log.tensors if tensor.name in names]
