"""A folder on a disk that rows of a log are written into."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import object_file
from .log import STEP
from .log_folder import LogFolder, check_overwritten, naming
from .object_file import PARTIAL, Bytes
from .root_keys import is_zarr_node
from .whole_file import whole_folder
from .writer_lock import WriterLock

if TYPE_CHECKING:
    from zarr.abc.store import Store

LATE = f"late{PARTIAL}"
"""Below `step`, where no reader looks for arrays: a tensor that is being made."""


class LocalFolder(LogFolder):
    """Files below a path. An object is in its place when `put` returns.

    durable : what `put` has put there is on the disk, names included, once `settle` has returned
    """

    def __init__(self, root: Path, durable: bool = False) -> None:
        self.path = self.root = root
        self.durable = durable
        self._folders: set[str] = set()
        self._lock: WriterLock | None = None

    def occupy(self, *, overwrite: bool, resume: bool) -> bool:
        begins = not resume or _is_blank(self.root)
        if begins:
            _make_place(self.root, overwrite, resume)
        elif not self.root.is_dir():
            raise UsageError(
                f"{self.root}: a file, and logs are resumed as folders: unpack it, or choose another path"
            )
        self._lock = WriterLock(self.root)
        if begins:
            for place in self.root.glob(f"*{PARTIAL}"):
                place.unlink()
        return begins

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def put(self, key: str, pieces: Sequence[Bytes]) -> None:
        path = f"{self.root}/{key}"
        object_file.put_object(path, pieces, self.durable)
        if self.durable:
            self._folders.add(os.path.dirname(path))  # noqa: PTH120 (fast)

    def wait(self) -> None:
        """Nothing is on its way."""

    def settle(self) -> None:
        for folder in sorted(self._folders):
            for place in (folder, os.path.dirname(folder)):  # noqa: PTH120
                file = os.open(place, os.O_RDONLY)
                try:
                    os.fsync(file)
                finally:
                    os.close(file)
        self._folders.clear()

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def clear(self, path: str) -> None:
        shutil.rmtree(self.root / path)

    @contextlib.contextmanager
    def unseen(self, name: str) -> Iterator[tuple[LogFolder, str]]:
        """As of `LogFolder`: made below `step`, and moved to its place in one step."""
        target, staging = self.root / name, self.root / STEP / LATE
        shutil.rmtree(staging, ignore_errors=True)
        with naming(self.root), whole_folder(target, staging):
            inside = LocalFolder(staging, self.durable)
            yield inside, ""
            inside.settle()
            target.parent.mkdir(parents=True, exist_ok=True)

    def keys(self) -> set[str]:
        from .places.folder_objects import (
            FolderObjects,  # deferred, with zarr-python: a new log needs neither
        )

        found = FolderObjects(self.root).sizes("", wanted=False)
        return {key for key in found if PARTIAL not in key or not _is_unfinished(key)}

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def remove(self, keys: Iterable[str]) -> None:
        emptied = set()
        for key in keys:
            place = self.root / key
            place.unlink()
            emptied.add(place.parent)
        for folder in emptied:
            while folder != self.root and folder.exists() and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent

    def tidy(self, nodes: Sequence[str]) -> None:
        below = [place for node in nodes for place in (self.root / node).rglob(f"*{PARTIAL}")]
        for place in (*self.root.glob(f"zarr.json*{PARTIAL}"), *below):
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    def store(self) -> Store:
        from zarr.storage import LocalStore

        return LocalStore(self.root, read_only=True)


def _is_unfinished(key: str) -> bool:
    return any(part.endswith(PARTIAL) for part in key.split("/"))


def _is_blank(path: Path) -> bool:
    """Whether nothing was begun there: no such path, an empty folder, or what a kill left of one."""
    if not path.exists():
        return True
    return path.is_dir() and all(p.name.endswith(PARTIAL) and p.is_file() for p in path.iterdir())


def _make_place(path: Path, overwrite: bool, resume: bool) -> None:
    """An empty folder, but for what a kill left."""
    if path.exists() and not resume:
        check_overwritten(path, overwrite=overwrite, is_store=_is_store(path))
        if path.is_dir():
            WriterLock(path).release()  # nobody is writing it
        shutil.rmtree(path)
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)


def _is_store(path: Path) -> bool:
    """A folder with Zarr's metadata, or an empty one: nothing else is ever deleted."""
    if not path.is_dir():
        return False
    return is_zarr_node(path) or not any(path.iterdir())
