"""Whose objects those of a store are listed and read as."""

from __future__ import annotations

import os

from zarr.storage import LocalStore, StorePath

from .folder_objects import FolderObjects
from .remote_objects import RemoteObjects
from .remote_store import RemoteStore
from .store_objects import StoreObjects, ZarrObjects


def objects_of(place: StorePath) -> StoreObjects:
    """The objects at and below a place in a store."""
    if isinstance(place.store, LocalStore):
        return FolderObjects(os.path.join(place.store.root, place.path))  # noqa: PTH118 (fast)
    if isinstance(place.store, RemoteStore):
        return RemoteObjects(place.store, place.path)
    return ZarrObjects(place)
