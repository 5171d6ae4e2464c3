"""One writer a log in a bucket: an object beside it, which its writer renews and others wait for.

It is made and renewed by conditional requests, so that of two that want it one gets it. A writer that was
killed renews nothing: its lock is taken over once it stood still for as long as it says itself. No clock of
two machines is compared. Nothing is uploaded by whoever has not renewed the lock just before, so that one who
was stopped and goes on finds out before it writes over the rows of the next.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import platform
import threading
import time
import uuid
import warnings
from typing import Any

from ..errors import DataError, UsageError
from .object_file import PARTIAL
from .places.remote_errors import RemoteError, told_remotely
from .places.remote_store import RemoteStore

LOCK = f"writer{PARTIAL}"
"""Key of the lock, at the root of the log; no reader looks at it."""
RENEWED = 10.0
"""Seconds from one renewal to the next."""
FRESH = 30.0
"""Seconds after a renewal in which an upload may begin without another."""
SPARE = 10.0
"""Seconds that a lock stands still beyond the last moment at which an upload of its writer may end."""
TRIES = 3
"""Of a renewal that fails as if somebody else were at it, while nobody is."""
LOOK = 1.0
"""Seconds between looks at the lock of somebody else."""

_CONDITIONS = ("AlreadyExistsError", "PreconditionError")
_held: set[str] = set()
"""Owners of the locks that this process holds."""


class BucketLock:
    """Held from its making until `release`; a process that is killed keeps it for `stands_still` seconds."""

    def __init__(self, store: RemoteStore) -> None:
        """Waits for the lock of a writer that was killed, or seems to be, and warns that it does.

        Raises UsageError where somebody else is writing, or the service knows no conditional requests;
        DataError where it refuses.
        """
        self.path = str(store.url)
        self._store = store
        self._owner = uuid.uuid4().hex
        self._process = os.getpid()
        self._renewals = 0
        self._tag: dict[str, str] = {}
        self._renewed = 0.0
        self._lost: str | None = None
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._take()
        _held.add(self._owner)
        atexit.register(self.release)
        self._thread = threading.Thread(target=self._keep, name="gradmf-lock", daemon=True)
        self._thread.start()

    @property
    def stands_still(self) -> float:
        """Seconds after which another may take the lock: an upload that began in time has ended or failed."""
        return FRESH + self._store.access.deadline + self._store.upload_seconds + SPARE

    def check(self) -> None:
        """Raise UsageError where the lock was lost, and DataError where that cannot be found out."""
        if os.getpid() != self._process:
            raise UsageError(f"{self.path}: written by another process, of which this one is a fork")
        if self._lost is None and not self._is_fresh():
            with self._mutex:
                for _ in range(TRIES):
                    if self._lost is not None or self._is_fresh():
                        break
                    self._renew()
        if self._lost is not None:
            raise UsageError(f"{self.path}: {self._lost}")
        if not self._is_fresh():
            raise DataError(f"{self.path}: its lock, '{LOCK}', cannot be renewed: try again")

    def abandon(self) -> None:
        """Let others write the log, in a while; waits for nothing."""
        self._ended.set()

    def release(self) -> None:
        """Let others write the log."""
        self._ended.set()
        if os.getpid() == self._process and threading.current_thread() is not self._thread:
            self._thread.join()

    def _take(self) -> None:
        seen: bytes | None = None
        since = time.monotonic()
        is_told = False
        while True:
            begun = time.monotonic()
            if self._put("create"):
                break
            found = self._read()
            if found is None:  # it was released in between
                time.sleep(LOOK)
                continue
            body, tag = found
            owner = _said(body)
            if owner.get("owner") == self._owner:  # the answer to a first try was lost
                self._tag = tag
                break
            if owner.get("owner") in _held or (seen is not None and body != seen):
                raise self._refusal(owner)
            if seen is None:
                seen, since = body, time.monotonic()
            seconds = owner.get("stands_still")
            if not isinstance(seconds, int | float):
                seconds = self.stands_still
            waited = time.monotonic() - since
            if waited > 2 * RENEWED and not is_told:
                is_told = True
                told = f"its writer{_who(owner)} seems to have been killed, and its lock is taken over in"
                warnings.warn(f"{self.path}: {told} {seconds - waited:.0f} seconds", RuntimeWarning, 2)
            if waited > seconds:
                if self._put(tag):
                    break
                raise self._refusal(owner)
            time.sleep(LOOK)
        self._renewed = begun

    def _refusal(self, owner: dict[str, Any]) -> UsageError:
        return UsageError(
            f"{self.path}: somebody else is writing this log{_who(owner)}: close it there, or choose another "
            "path"
        )

    def _keep(self) -> None:
        """Renew the lock until it is let go, and then remove it."""
        while not self._ended.wait(RENEWED):
            # An error is told by the next upload, which tries again.
            with contextlib.suppress(Exception), self._mutex:
                self._renew()
            if self._lost is not None:
                break
        _held.discard(self._owner)
        with contextlib.suppress(Exception):
            self._remove()
        with contextlib.suppress(Exception):
            atexit.unregister(self.release)

    def _renew(self) -> None:
        begun = time.monotonic()
        if not self._put(self._tag):
            found = self._read()
            owner = {} if found is None else _said(found[0])
            if found is None:
                self._lost = "its lock is gone: was the log removed, or moved?"
                return
            if owner.get("owner") != self._owner:
                self._lost = (
                    f"another writer{_who(owner)} took this log over: this one was silent for "
                    f"{self.stands_still:g} seconds"
                )
                return
            self._tag = found[1]
            if owner.get("renewals") != self._renewals:
                return
            # The answer to a first try was lost.
        self._renewed = begun

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._renewed <= FRESH

    def _put(self, mode: Any) -> bool:
        """Write the lock under a condition, "create" or the tag that it has; whether that held."""
        import obstore

        self._renewals += 1
        body = {
            "owner": self._owner, "host": platform.node(), "process": self._process,
            "stands_still": self.stands_still, "renewals": self._renewals,
        }  # fmt: skip
        try:
            self._tag = _tag(obstore.put(self._store.store, LOCK, json.dumps(body).encode(), mode=mode))
        except FileNotFoundError as error:
            if mode == "create":
                raise self._told(error) from None
            return False
        except Exception as error:
            kind, text = type(error).__name__, str(error)
            if kind in _CONDITIONS or "412 Precondition" in text or "409 Conflict" in text:
                return False
            if kind in ("NotSupportedError", "NotImplementedError") or "501 Not Implemented" in text:
                raise UsageError(
                    f"{self.path}: the service knows no conditional requests (If-None-Match), by which a log "
                    "has one writer: record to a local folder, and copy it by gradmf rechunk"
                ) from None
            if not self._has_landed():
                raise self._told(error) from None
        return True

    def _has_landed(self) -> bool:
        """Whether the last request did what it was to do, though its answer was lost."""
        with contextlib.suppress(DataError):
            if (found := self._read()) is not None:
                body, self._tag = found
                said = _said(body)
                return (said.get("owner"), said.get("renewals")) == (self._owner, self._renewals)
        return False

    def _read(self) -> tuple[bytes, dict[str, str]] | None:
        import obstore

        try:
            response = obstore.get(self._store.store, LOCK)
            return bytes(response.bytes()), _tag(response.meta)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._told(error) from None

    def _remove(self) -> None:
        import obstore

        found = None if self._lost else self._read()
        if found is not None and _said(found[0]).get("owner") == self._owner:
            obstore.delete(self._store.store, LOCK)

    def _told(self, error: Exception) -> DataError:
        told: RemoteError = told_remotely(error, self._store.url, self._store.access, LOCK)
        return DataError(f"{self.path}: {told}")


def _tag(meta: Any) -> dict[str, str]:
    """By what a service tells a version of an object from another."""
    return {word: meta[word] for word in ("e_tag", "version") if meta.get(word)}


def _said(body: bytes) -> dict[str, Any]:
    """What a lock says of its owner; nothing where it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _who(owner: dict[str, Any]) -> str:
    if not owner.get("process"):
        return ""
    return f" (process {owner['process']} on {owner.get('host')})"
