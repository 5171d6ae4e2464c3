"""Which place a path, a URL or an opened store is. What only logs need is loaded where there is one."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from ...errors import DataError, StoreNotFoundError, UsageError
from ..root_keys import METADATA_KEYS
from .access import current_access
from .file_place import FilePlace
from .local_place import LocalPlace
from .place import Place
from .remote_url import RemoteUrl, is_url, remote_url, without_secrets

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store
    from zarr.storage import StorePath

Source: TypeAlias = "str | os.PathLike[str] | zarr.Group | zarr.Array[Any] | Store | StorePath"
"""Where a log may lie: a path or a URL, or what was opened with zarr."""


def place_of(source: Source) -> Place:
    """The place that a source stands for.

    source : a path, also of the node's own metadata (RUN.zarr/zarr.json); a URL; what zarr opened

    Raises DataError for what cannot be looked at, UsageError for URLs that are not read.
    """
    if not isinstance(source, str | os.PathLike):
        from .opened_place import OpenedPlace

        return OpenedPlace(source)
    text = os.fspath(source)
    if not text:
        raise StoreNotFoundError("an empty path: give the folder or zip file of a Zarr store")
    if is_url(text):
        from .url_place import UrlPlace

        return UrlPlace(remote_url(text), current_access())
    path = local_path(text)
    if path.name in METADATA_KEYS and path.is_file():
        path = path.parent
    place = LocalPlace(text, path)
    if not place.exists():
        return place
    if path.is_dir():
        from .folder_place import FolderPlace

        return FolderPlace(text, path)
    try:
        packed = path.is_file() and zipfile.is_zipfile(path)
    except OSError as error:
        raise DataError(f"{text}: cannot be read: {error.strerror or error}") from error
    if not packed:
        return FilePlace(text, path)
    from .zip_place import ZipPlace

    return ZipPlace(text, path)


def growing_place(path: str | os.PathLike[str]) -> Path | RemoteUrl:
    """The local folder, or the place in a bucket, of a log that is written row by row.

    Raises UsageError for other URLs.
    """
    text = os.fspath(path)
    return remote_url(text) if is_url(text) else local_path(text)


def folder_to_write(path: str | os.PathLike[str]) -> LocalPlace:
    """The local folder of files that others write bit by bit. Raises UsageError for a URL."""
    text = os.fspath(path)
    if is_url(text):
        raise UsageError(f"{without_secrets(text)}: its files are written to a local folder only")
    return LocalPlace(text, local_path(text))


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
