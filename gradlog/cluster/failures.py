"""Errors of tasks, as values: a cluster would try a task that raises again, and hand on a traceback."""

from __future__ import annotations

from ..errors import (
    ClusterError,
    DataError,
    GradmfError,
    MemoryLimitError,
    StoreNotFoundError,
    UsageError,
    first_line,
)
from ..logs.scratch import ScratchError
from ..quick_dataclass import dataclass
from .here import worker_name

_KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (DataError, StoreNotFoundError, UsageError, MemoryLimitError, ScratchError, OverflowError)
}


@dataclass(frozen=True)
class Failure:
    """kind : name of an error's class; text : in one line"""

    kind: str
    text: str

    def error(self) -> Exception:
        """The error, to be raised where the value was asked for."""
        return _KINDS.get(self.kind, ClusterError)(self.text)


def failure_of(error: Exception) -> Failure:
    """The value that stands for an error that was raised by a task."""
    for kind in type(error).__mro__:
        if kind.__name__ in _KINDS:
            return Failure(kind.__name__, str(error))
    if isinstance(error, GradmfError):
        return Failure(ClusterError.__name__, str(error))
    told = f"{worker_name()}: {type(error).__name__}: {first_line(error)}"
    return Failure(ClusterError.__name__, told)
