"""A folder or an object in a bucket of an object store, by its URL."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zarr.storage import StorePath

from ...errors import DataError, StoreNotFoundError, UsageError
from ..rank_folders import holds_ranks
from ..root_keys import METADATA_KEYS, ROOT_KEYS, is_rank_name
from .access import Access
from .place import RESULTS, Entry, Place, begins_as_json, some_of
from .remote_errors import is_missing_bucket, told_remotely
from .remote_objects import RemoteObjects
from .remote_requests import alone, together
from .remote_store import PART_BYTES, RemoteStore, open_remote
from .remote_url import RemoteUrl

UPLOADS = 32
"""Objects that are written together."""


class UrlPlace(Place):
    """What a URL names. access : how the service is reached"""

    def __init__(self, url: RemoteUrl, access: Access) -> None:
        self.name = str(url)
        self.url = url
        self.access = access
        self._opened: RemoteStore | None = None

    def exists(self) -> bool:
        files, folders = self._folder()
        return bool(files or folders) or self._object() is not None

    def open(self) -> StorePath:
        files, folders = self._folder(is_log=True)
        if not files and not folders:
            if self._object() is None:
                raise StoreNotFoundError(f"{self.name}: nothing is there: no object has this name or prefix")
            if self.url.name in METADATA_KEYS:
                return UrlPlace(self.url.above, self.access).open()
            raise DataError(f"{self.name}: not a Zarr store: {self.describe()}")
        root = StorePath(self._store)
        if not files & set(ROOT_KEYS) and not (any(map(is_rank_name, folders)) and holds_ranks(root)):
            raise DataError(f"{self.name}: not a Zarr store: {self.describe()}")
        return root

    def entries(self) -> list[Entry]:
        files, folders = self._folder()
        found = [*(Entry(name, 0) for name in files), *(Entry(name, None) for name in folders)]
        return sorted(found, key=lambda entry: entry.name)

    def describe(self) -> str:
        entries = self.entries()
        if not entries:
            size = self._object() or 0
            if begins_as_json(self.start(64)):
                return RESULTS
            if self.url.name.endswith(".zip"):
                return "zip archives are read from a local disk only: copy it, or put the folder there"
            return f"an object of {size} bytes; give the prefix of a Zarr store"
        stores = [entry.name for entry in entries if entry.size is None and entry.name.endswith(".zarr")]
        if stores:
            told = f"{self.url.inside(stores[0])}"
            return f"but {len(stores)} inside it, such as {told}; give that, or {self.url.inside('*.zarr')}"
        names = [entry.name for entry in entries]
        return f"the prefix has no zarr.json, .zgroup or .zarray; it holds {some_of(names)}"

    def start(self, count: int) -> bytes:
        return self._bytes({"range": (0, count)}) if self._object() else b""

    def read(self) -> bytes:
        return self._bytes({})

    def copy_to(self, file: IO[bytes]) -> None:
        import obstore

        try:
            response = alone(obstore.get, self._above().store, self.url.name)
        except FileNotFoundError:
            raise StoreNotFoundError(f"{self.name}: nothing is there: no object has this name") from None
        except Exception as error:
            raise self._told(error) from None
        pieces = response.stream(min_chunk_size=PART_BYTES)
        while True:
            try:
                piece = alone(next, pieces, None)
            except Exception as error:
                raise self._told(error) from None
            if piece is None:
                return
            file.write(piece)

    def check_file(self) -> None:
        if not self.url.path:
            raise UsageError(f"{self.name}: a whole bucket: give the name of an object in it")
        try:
            UrlPlace(self.url.above, self.access).entries()
        except DataError as error:
            if "(403)" not in str(error):  # who may write need not be allowed to list
                raise type(error)(f"{self.name}: {str(error).partition(': ')[2]}") from None

    @contextlib.contextmanager
    def whole_file(self) -> Iterator[IO[bytes]]:
        self.check_file()
        with tempfile.TemporaryFile() as file:
            yield file
            file.flush()
            file.seek(0)
            self._put_all([(self._above(), self.url.name, file)])

    def remove_file(self) -> None:
        import obstore

        alone(obstore.delete, self._above().store, self.url.name)

    @contextlib.contextmanager
    def whole_folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="gradmf-") as folder:
            root = Path(folder) / "log"
            root.mkdir()
            yield root
            files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
            try:
                # A log has rows once `step` says so, and its metadata is what is looked for.
                steps = [key for key in files if key.startswith("step/")]
                lots = [
                    [key for key in files if key not in steps],
                    [key for key in steps if key != "step/zarr.json"],
                    ["step/zarr.json"] if "step/zarr.json" in steps else [],
                ]
                for lot in lots:
                    self._put_all([(self._store, key, root / key) for key in lot])
            except BaseException:
                with contextlib.suppress(Exception):
                    self._remove(files)
                raise

    def folder_filled(self) -> Path:
        return Path(tempfile.gettempdir())

    def check_free(self) -> None:
        if not self.url.path:
            raise UsageError(f"{self.name}: a whole bucket: give a path inside of it")
        if self.exists():
            raise UsageError(f"{self.name}: already there; choose another path or remove it")

    @property
    def _store(self) -> RemoteStore:
        if self._opened is None:
            self._opened = open_remote(self.url, self.access)
        return self._opened

    def _folder(self, *, is_log: bool = False) -> tuple[set[str], list[str]]:
        """What lies right inside. is_log : a log is read next. Raises DataError that names the place."""
        try:
            objects = RemoteObjects(self._store)
            if is_log:
                objects.begin()
            return objects.folder("")
        except UsageError:
            raise
        except Exception as error:
            told = f"{self.name}: {told_remotely(error, self.url, self.access)}"
            raise (StoreNotFoundError if is_missing_bucket(error) else DataError)(told) from None

    def _above(self) -> RemoteStore:
        return open_remote(self.url.above, self.access)

    def _object(self) -> int | None:
        """Bytes of the object of this name, None without one."""
        if not self.url.path:
            return None
        import obstore

        try:
            return int(alone(obstore.head, self._above().store, self.url.name)["size"])
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._told(error) from None

    def _bytes(self, options: Any) -> bytes:
        import obstore

        try:
            store = self._above().store
            return alone(lambda: bytes(obstore.get(store, self.url.name, options=options).bytes()))
        except FileNotFoundError:
            raise StoreNotFoundError(f"{self.name}: nothing is there: no object has this name") from None
        except Exception as error:
            raise self._told(error) from None

    def _put_all(self, files: list[tuple[RemoteStore, str, Path | IO[bytes]]]) -> None:
        try:
            together(RemoteStore.upload, files, UPLOADS)
        except Exception as error:
            told = told_remotely(error, self.url, self.access)
            raise DataError(f"{self.name}: cannot be written: {told}") from None

    def _remove(self, keys: list[str]) -> None:
        import obstore

        together(lambda key: obstore.delete(self._store.store, key), ((key,) for key in keys), UPLOADS)

    def _told(self, error: Exception) -> DataError:
        return DataError(f"{self.name}: {told_remotely(error, self.url, self.access)}")
