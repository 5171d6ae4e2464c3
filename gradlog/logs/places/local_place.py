"""A place in the file system, whatever is there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...errors import DataError, StoreNotFoundError, UsageError
from ..whole_file import whole_file, whole_folder
from .place import Entry, Place

if TYPE_CHECKING:
    from zarr.storage import StorePath


class LocalPlace(Place):
    """Where nothing is, or what a subclass knows. name : as given; path : of the file or folder"""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    def exists(self) -> bool:
        try:
            return self.path.exists()
        except OSError as error:
            raise DataError(f"{self.name}: cannot be looked at: {error.strerror or error}") from error

    def open(self) -> StorePath:
        raise StoreNotFoundError(f"{self.name}: no such file or directory")

    def entries(self) -> list[Entry]:
        return []

    def describe(self) -> str:
        return "nothing is there"

    def whole_file(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        return whole_file(self.path)

    def remove_file(self) -> None:
        self.path.unlink()

    def whole_folder(self) -> contextlib.AbstractContextManager[Path]:
        return whole_folder(self.path)

    def folder_filled(self) -> Path:
        return self.path.absolute().parent

    def check_file(self) -> None:
        if self.path.is_dir():
            raise UsageError(f"{self.path}: a folder; give the name of a file")
        self._check_folder()

    def check_free(self) -> None:
        path = self.path
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path}: already there; choose another path or remove it")
        self._check_folder()

    def _check_folder(self) -> None:
        folder = self.path.absolute().parent
        if not folder.is_dir():
            raise UsageError(f"{self.path}: there is no folder {os.fspath(folder)!r}")
