"""Which place a path, a URL or an opened store is."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import zarr
from zarr.abc.store import Store
from zarr.storage import StorePath

from ...errors import DataError, StoreNotFoundError
from ..root_keys import METADATA_KEYS
from .access import current_access
from .file_place import FilePlace
from .folder_place import FolderPlace
from .local_place import LocalPlace
from .opened_place import OpenedPlace
from .place import Place
from .remote_url import is_url, remote_url, without_secrets
from .url_place import UrlPlace
from .zip_place import ZipPlace

Source: TypeAlias = "str | os.PathLike[str] | zarr.Group | zarr.Array[Any] | Store | StorePath"
"""Where a log may lie: a path or a URL, or what was opened with zarr."""


def place_of(source: Source) -> Place:
    """The place that a source stands for.

    source : a path, also of the node's own metadata (RUN.zarr/zarr.json); a file:// URL; what zarr opened

    Raises DataError for what cannot be looked at, and for URLs that are not read.
    """
    if isinstance(source, zarr.Group | zarr.Array | Store | StorePath):
        return OpenedPlace(source)
    text = os.fspath(source)
    if not text:
        raise StoreNotFoundError("an empty path: give the folder or zip file of a Zarr store")
    if is_url(text):
        return UrlPlace(remote_url(text), current_access())
    path = local_path(text)
    if path.name in METADATA_KEYS and path.is_file():
        path = path.parent
    if not LocalPlace(text, path).exists():
        return LocalPlace(text, path)
    if path.is_dir():
        return FolderPlace(text, path)
    try:
        packed = path.is_file() and zipfile.is_zipfile(path)
    except OSError as error:
        raise DataError(f"{text}: cannot be read: {error.strerror or error}") from error
    return ZipPlace(text, path) if packed else FilePlace(text, path)


def local_path(text: str) -> Path:
    """The path of a local file or folder, from a path or a file:// URL. Raises DataError for other URLs."""
    if "://" not in text:
        return Path(text)
    address = urlsplit(text)
    if address.scheme.lower() != "file" or address.netloc not in ("", "localhost"):
        raise DataError(f"{without_secrets(text)}: no local file or folder")
    return Path(unquote(address.path))


def open_source(source: Source) -> tuple[str, StorePath]:
    """The name of what lies somewhere, for messages, and its Zarr node. Raises what `Place.open` raises."""
    place = place_of(source)
    return place.name, place.open()
