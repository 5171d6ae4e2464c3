"""What somebody opened with zarr: a group, an array, a store, or a place in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath, ZipStore

from ...errors import DataError, StoreNotFoundError, first_line
from ..zip_archive import ArchiveStore
from .objects_of import objects_of
from .opened_bucket import opened_bucket
from .place import Entry, Place


class OpenedPlace(Place):
    """Of what zarr opened. name : of its place, such as `file:///runs/a.zarr/gradients`"""

    def __init__(self, opened: zarr.Group | zarr.Array[Any] | Store | StorePath) -> None:
        if isinstance(opened, zarr.Group | zarr.Array):
            self._place = opened.store_path
        else:
            self._place = opened if isinstance(opened, StorePath) else StorePath(opened)
        self.name = str(self._place)

    def exists(self) -> bool:
        store = self._place.store
        return not isinstance(store, LocalStore) or store.root.exists()

    def open(self) -> StorePath:
        place, store = self._place, self._place.store
        if isinstance(store, LocalStore):  # opening it would make the folder
            if not self.exists():
                raise StoreNotFoundError(f"{place}: no such file or directory")
            return place
        if (bucket := opened_bucket(store)) is not None:
            return StorePath(bucket, place.path)
        try:
            if isinstance(store, ZipStore) and not store._is_open:  # opening it to write would empty it
                return StorePath(ArchiveStore(Path(store.path)), place.path)
            return sync(StorePath.open(store, place.path))
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"{place}: no such file or directory") from error
        except Exception as error:
            raise DataError(f"{place}: the store cannot be opened: {first_line(error)}") from error

    def entries(self) -> list[Entry]:
        try:
            files, folders = objects_of(self._place).folder("")
        except Exception as error:
            raise DataError(f"{self.name}: the store cannot be listed: {first_line(error)}") from error
        sized = objects_of(self._place).sizes("") if files else {}
        found = [Entry(name, sized.get(name, 0)) for name in files]
        return sorted([*found, *(Entry(name, None) for name in folders)], key=lambda entry: entry.name)

    def describe(self) -> str:
        shown = ", ".join(entry.name for entry in self.entries()[:4])
        return f"a store that holds {shown or 'nothing'}"
