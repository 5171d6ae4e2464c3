"""One writer a log: a second one is told so, in this process or in another on the same machine."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

from ..errors import UsageError

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]


class WriterLock:
    """Held from its making until `release`, or until its process ends, however it does."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError where somebody else holds the lock of `folder`, which exists."""
        self._file: int | None = None
        if fcntl is None:
            return
        file = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise UsageError(
                f"{folder}: somebody else is writing this log: close it there, or choose another path"
            ) from None
        except OSError:  # a file system without locks
            os.close(file)
            return
        self._file = file
        _held.add(self)

    def release(self) -> None:
        """Let others write the log."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.release()


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _close_in_child() -> None:
    """A worker process that outlives its trainer must not keep the log."""
    for lock in list(_held):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
