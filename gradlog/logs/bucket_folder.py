"""A prefix in a bucket that rows of a log are written into."""

from __future__ import annotations

import contextlib
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import DataError, UsageError
from .bucket_lock import LOCK, BucketLock
from .log_folder import LogFolder, check_overwritten
from .object_file import Bytes
from .places.access import Access
from .places.remote_errors import RemoteError, told_remotely
from .places.remote_objects import RemoteObjects
from .places.remote_requests import together
from .places.remote_store import RemoteStore, open_remote
from .places.remote_url import RemoteUrl
from .places.url_place import UrlPlace
from .root_keys import ROOT_KEYS
from .stored_array import GROUP_DOCUMENT, METADATA
from .uploads import Uploads

if TYPE_CHECKING:
    from zarr.abc.store import Store


_CHUNK = re.compile(r"c(\.\d+)+")
"""Name of a chunk as the writer gives it."""


class BucketFolder(LogFolder):
    """Objects below a URL, uploaded several at a time. access : how the service is reached"""

    def __init__(self, url: RemoteUrl, access: Access) -> None:
        """Nothing is asked of the service yet. Raises UsageError where the library is missing."""
        self.path = str(url)
        if not url.path:
            raise UsageError(f"{self.path}: a whole bucket: give a path inside of it")
        self._url = url
        self._access = access
        self._store = open_remote(url, access)
        self._there: set[str] = set()  # metadata, and all folders above it
        self._hidden: str | None = None
        self._listed: set[str] = set()  # until a log that is resumed is tidy
        self._asked: set[str] = set()  # of it, ahead of being read
        self._documents: dict[str, bytes] = {}  # of it; and what is hidden

    def occupy(self, *, overwrite: bool, resume: bool) -> bool:
        self._look(overwrite, resume)
        self._lock = BucketLock(self._store)
        self._uploads = Uploads(_uploader(self._store, self._lock))
        # Not bound to this folder, which has to go before them.
        self._finalizer = weakref.finalize(self, _abandon, self._uploads, self._lock)
        self._finalizer.atexit = False
        try:
            begins = self._look(overwrite, resume)  # of what a writer left who ended only now
            if begins:
                self._remove_all()
        except BaseException:
            self.release()
            raise
        return begins

    def release(self) -> None:
        self._finalizer.detach()
        self._uploads.end()
        self._lock.release()

    def put(self, key: str, pieces: Sequence[Bytes]) -> None:
        data = b"".join(piece if isinstance(piece, bytes) else piece.data for piece in pieces)
        if key == self._hidden:
            self._documents[key] = data
            return
        self._lock.check()
        self._uploads.put(key, data)
        self._note(key)

    def wait(self) -> None:
        self._uploads.wait()

    def settle(self) -> None:
        self._uploads.wait()

    def exists(self, path: str) -> bool:
        return path in self._there

    def clear(self, path: str) -> None:
        self.remove(f"{path}/{key}" for key in self._sizes(path))

    @contextlib.contextmanager
    def unseen(self, name: str) -> Iterator[tuple[LogFolder, str]]:
        """As of `LogFolder`. Below an empty group, which one upload makes an array once all else is there."""
        key = f"{name}/{METADATA}"
        self._uploads.put(key, GROUP_DOCUMENT)
        self._uploads.wait()
        self._hidden = key
        try:
            yield self, name
        finally:
            self._hidden = None
        self._uploads.wait()
        self.put(key, (self._documents.pop(key),))
        self._uploads.wait()

    def keys(self) -> set[str]:
        found = set(self._sizes("")) - {LOCK}
        for key in found:
            self._note(key)
        documents = [key for key in found if _name(key) == METADATA]
        self._documents = dict(zip(documents, self._read_all(documents), strict=True))
        self._listed = found
        return found

    def read(self, key: str) -> bytes:
        if key in self._documents:
            return self._documents[key]
        return self._read_all([key])[0]

    def expect(self, keys: Iterable[str]) -> None:
        asked = list(keys)
        self._asked.update(asked)
        self._store.ask(asked)

    def remove(self, keys: Iterable[str]) -> None:
        import obstore

        self._lock.check()
        gone = list(keys)
        for key in gone:
            self._documents.pop(key, None)

        def remove(key: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store.store, key)

        try:
            together(remove, ((key,) for key in gone))
        except Exception as error:
            raise self._told(error, "cannot be removed from") from None
        self._there -= set(gone)
        for key in gone:  # a folder is gone with its metadata
            if _name(key) == METADATA:
                self._there.discard(key.rpartition("/")[0])

    def tidy(self, nodes: Sequence[str]) -> None:
        """As of `LogFolder`: groups without arrays, one of which was to become an array, and its chunks."""
        needed = set(nodes)
        for key, document in self._documents.items():
            path = key.rpartition("/")[0]
            while path and document != GROUP_DOCUMENT and path not in needed:
                needed.add(path)
                path = path.rpartition("/")[0]
        left = {
            path
            for path in (key.rpartition("/")[0] for key in self._documents)
            if path.startswith(tuple(f"{node}/" for node in nodes)) and path not in needed
        }
        self.remove(k for k in self._listed if k.rpartition("/")[0] in left and _CHUNK.fullmatch(_name(k)))
        self.remove(f"{path}/{METADATA}" for path in left)
        self._store.drop(self._asked)
        self._listed, self._asked, self._documents = set(), set(), {}

    def store(self) -> Store:
        return self._store

    def _look(self, overwrite: bool, resume: bool) -> bool:
        """Whether a log begins. Raises UsageError for what may not be written over."""
        place = UrlPlace(self._url, self._access)
        found = place.entries()
        entries = [entry for entry in found if entry.name != LOCK]
        if not found and place.exists():
            raise UsageError(f"{self.path}: an object, and logs are folders: choose another path")
        if not entries:
            return True
        if resume:
            return False
        is_store = any(entry.name in ROOT_KEYS for entry in entries)
        check_overwritten(self.path, overwrite=overwrite, is_store=is_store)
        return True

    def _remove_all(self) -> None:
        """`step` first, so that no reader takes what is left for a log, and last what says that it is one."""
        found = set(self._sizes("")) - {LOCK}
        steps, roots = found & {"step/zarr.json"}, found & set(ROOT_KEYS)
        for lot in (steps, found - steps - roots, roots):
            self.remove(lot)

    def _note(self, key: str) -> None:
        above, _, name = key.rpartition("/")
        if name == METADATA:
            self._there.add(key)
            while above:
                self._there.add(above)
                above = above.rpartition("/")[0]

    def _sizes(self, path: str) -> dict[str, int]:
        try:
            return RemoteObjects(open_remote(self._url, self._access)).sizes(path)
        except Exception as error:
            raise self._told(error, "cannot be listed in") from None

    def _read_all(self, keys: Sequence[str]) -> list[bytes]:
        def read(key: str) -> bytes:
            found = self._store.fetch(key)
            if found is None:
                raise FileNotFoundError(key)
            return bytes(found[0])

        try:
            return together(read, ((key,) for key in keys))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._told(error) from None

    def _told(self, error: Exception, what: str = "") -> DataError:
        told = told_remotely(error, self._url, self._access)
        return DataError(f"{self.path}: {f'an object {what} it: ' if what else ''}{told}")


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _uploader(store: RemoteStore, lock: BucketLock) -> Callable[[str, bytes], None]:
    """Puts an object into the store while the lock is held."""

    def upload(key: str, data: bytes) -> None:
        lock.check()
        try:
            store.upload(key, data, key)
        except RemoteError as error:
            raise DataError(f"{store.url}: cannot be written: {error}") from None

    return upload


def _abandon(uploads: Uploads, lock: BucketLock) -> None:
    uploads.end()
    lock.abandon()
