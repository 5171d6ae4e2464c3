"""Objects on their way to a bucket: several at a time, in bounded memory, and no error lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

AT_ONCE = 16
"""Objects that are uploaded together: more would each take longer than they may where the network is slow."""
PENDING_BYTES = 64 << 20
"""Bytes of objects that are under way, or one object."""


class Uploads:
    """Threads that upload, all begun here: a program that ends begins no more, and its log is closed then."""

    def __init__(self, upload: Callable[[str, bytes], None]) -> None:
        """upload : puts an object in its place, by its key, or raises; called in any thread"""
        self._upload = upload
        self._orders: SimpleQueue[tuple[str, bytes] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._pending: dict[str, int] = {}  # bytes by key
        self._failure: Exception | None = None
        for _ in range(AT_ONCE):
            threading.Thread(target=self._run, name="gradmf-upload", daemon=True).start()

    def put(self, key: str, data: bytes) -> None:
        """Have an object uploaded, behind an earlier one of its key. Raises what an earlier upload raised."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_room(key, len(data)))
                if self._failure is None:
                    self._pending[key] = len(data)
                    self._orders.put((key, data))
                    return
            self.wait()

    def wait(self) -> None:
        """Return once nothing is under way. Raises what the first upload that failed since then raised."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def end(self) -> None:
        """Let the threads end behind what is under way; waits for nothing."""
        for _ in range(AT_ONCE):
            self._orders.put(None)

    def _has_room(self, key: str, size: int) -> bool:
        held = sum(self._pending.values())
        fits = len(self._pending) < 2 * AT_ONCE and held + size <= PENDING_BYTES
        return self._failure is not None or (key not in self._pending and (fits or not self._pending))

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            key, data = order
            failure: Exception | None = None
            try:
                if self._failure is None:  # whoever asked does it all again
                    self._upload(key, data)
            except Exception as error:
                failure = error
            del order, data
            with self._changed:
                del self._pending[key]
                self._failure = self._failure or failure
                self._changed.notify_all()
