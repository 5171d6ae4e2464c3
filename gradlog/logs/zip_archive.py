"""A zip file as a Zarr store, whatever program packed it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from zarr.storage import ZipStore

from ..errors import DataError


class ArchiveStore(ZipStore):
    """Zarr's own store, but for names as they come: with backslashes, `./` before them or `//` in them.

    Raises DataError, when it is opened, for an archive whose directory cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="r")
        self._sync_open()

    def _sync_open(self) -> None:
        super()._sync_open()
        _name_alike(self._zf)

    async def getsize(self, key: str) -> int:
        """Bytes of a value. Zarr's own way reads it."""
        try:
            return self._zf.getinfo(key).file_size
        except KeyError:
            raise FileNotFoundError(key) from None


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of the files in a zip archive, as keys of a store.

    Raises DataError for an archive that cannot be read: damaged, or of a kind that Python doesn't know.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _name_alike(archive)
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        told = str(error) or type(error).__name__
        raise DataError(
            f"{os.fspath(path)}: the zip archive cannot be read: {told}; unpack it, and give the folder"
        ) from error


def _name_alike(archive: zipfile.ZipFile) -> None:
    """Give members the names that keys of a store have; folders are none."""
    members = {}
    for member in archive.filelist:
        name = member.filename
        if "/" not in name:  # PowerShell's Compress-Archive writes `run.zarr\w\c\0`
            name = name.replace("\\", "/")
        if name.endswith("/"):
            continue
        name = "/".join(part for part in name.split("/") if part not in ("", "."))
        if name and ".." not in name.split("/"):
            member.filename = name
            members[name] = member  # the last of a name counts, as in Zarr's own store
    archive.filelist = list(members.values())
    archive.NameToInfo = members
