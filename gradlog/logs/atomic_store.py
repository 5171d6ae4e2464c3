"""A folder store for a writer: objects are replaced whole, and a piece of work that failed writes no more."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from .whole_file import in_one_step

PARTIAL = ".partial"
"""End of the names of what a process that died was still writing; nothing by such a name is part of a log."""


class AtomicStore(LocalStore):
    """Zarr's store of a folder, written beside and renamed: a kill leaves the old object or the new one.

    Older zarr writes in place, and a chunk that holds committed rows is written again as it fills up.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._changed = threading.Condition()
        self._running = 0
        self._ended = False

    async def set(self, key: str, value: Buffer) -> None:
        """Put one object in its place, whole. Raises OSError when it cannot be, and once `end` was called."""
        with self._changed:
            if self._ended:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), str(self.root / key))
            self._running += 1
        beside = key + PARTIAL
        try:
            with in_one_step(self.root / beside, self.root / key):
                await super().set(beside, value)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Put an object where there is none. A log has one writer: nobody is raced for the place."""
        if not await self.exists(key):
            await self.set(key, value)

    def end(self) -> None:
        """Refuse what is still to be written, and wait for what is being written.

        Zarr leaves the rest of a batch running when one chunk fails, or when the thread that waits is
        interrupted; it would land on top of what is written next.
        """
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: not self._running)


@contextlib.contextmanager
def writing(root: Path, log: Path) -> Iterator[AtomicStore]:
    """A store of the folder `root` for one piece of work on a log.

    When that fails, nothing of it is written later, and the error names the log.
    """
    store = AtomicStore(root)
    try:
        yield store
    except BaseException as error:
        store.end()
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(log)  # "No space left on device" comes without a path
        elif str(log) not in str(error):
            error.add_note(f"while writing {log}")
        raise
