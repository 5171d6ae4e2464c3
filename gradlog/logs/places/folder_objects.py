"""The objects of a store that is a folder on disk: files, listed by the system itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from .store_objects import Piece, StoreObjects


class FolderObjects(StoreObjects):
    """Of a folder. root : its path"""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.fspath(root)

    def folder(self, path: str) -> tuple[set[str], list[str]]:
        files, folders = set(), []
        with os.scandir(self._path(path)) as entries:
            for entry in entries:
                if entry.is_dir():
                    if entry.is_symlink() and _holds(entry.path, f"{self._root}/{path}"):
                        continue  # a link to a folder above: what is there is known already
                    folders.append(f"{path}/{entry.name}" if path else entry.name)
                else:
                    files.add(entry.name)
        return files, sorted(folders)

    def children(self) -> list[str]:
        return sorted(os.listdir(self._root))  # noqa: PTH208 (fast)

    def read(self, key: str) -> bytes:
        with open(self._path(key), "rb") as file:  # noqa: PTH123 (fast)
            return file.read()

    def sizes(self, path: str, *, wanted: bool = True) -> dict[str, int]:
        return dict(_walk(self._path(path), wanted))

    def present(self, path: str, keys: Sequence[str]) -> list[bool]:
        # Keys with slashes are folders of few files each, dearer to list than to look for.
        if not any("/" in key for key in keys[:1]):
            return super().present(path, keys)
        root, exists = self._path(path), os.path.exists
        return [exists(f"{root}/{key}") for key in keys]

    def pieces(self, keys: Sequence[str], count: int, *, at_end: bool) -> list[Piece | Exception]:
        return [self._piece(key, count, at_end) for key in keys]

    def _piece(self, key: str, count: int, at_end: bool) -> Piece | Exception:
        try:
            with open(self._path(key), "rb") as file:  # noqa: PTH123 (fast)
                whole = os.fstat(file.fileno()).st_size
                file.seek(max(0, whole - count) if at_end else 0)
                return Piece(file.read(count), whole)
        except OSError as error:
            return error

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


def _holds(link: str, folder: str) -> bool:
    target, inside = os.path.realpath(link), os.path.realpath(folder)
    return inside == target or inside.startswith(target.rstrip("/") + "/")


def _walk(root: str, sizes: bool) -> Iterable[tuple[str, int]]:
    folders = [("", root)]
    while folders:
        relative, place = folders.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append((f"{relative}{entry.name}/", entry.path))
                else:
                    yield relative + entry.name, entry.stat().st_size if sizes else 0
