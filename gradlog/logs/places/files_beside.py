"""Files that stand beside another one, under its name and an ending: they are there, whole, before it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..whole_file import named
from .file_place import FilePlace
from .local_place import LocalPlace
from .place import Place


class FilesBeside:
    """Those of one file that is being written. target : of that one

    numbered : whether a number is part of their names, as there may be several with one ending

    Until `put` nobody sees them, and they are gone when the program is, however it ends.
    """

    def __init__(self, target: Place) -> None:
        self.numbered = False
        self._target = target
        self._files: list[tuple[Place, IO[bytes]]] = []
        self._put: list[Place] = []
        self._open = contextlib.ExitStack()

    @contextlib.contextmanager
    def new_file(self, ending: str) -> Iterator[tuple[str, IO[bytes]]]:
        """The name of one, without folders, and a file for the block to fill, which can be read again.

        Raises OSError that names its place where the system refuses.
        """
        number = f".{len(self._files) + 1}" if self.numbered else ""
        name = f"{_file_name(self._target)}{number}{ending}"
        place = place_beside(self._target, name)
        try:
            file = self._open.enter_context(_nameless_file(self._target))
            self._files.append((place, file))
            yield name, file
            file.flush()
        except OSError as error:
            raise named(error, place.name) from error

    def put(self, target: IO[bytes]) -> None:
        """Let each take its place once all bytes are on the disk. target : those of the file beside them

        Raises OSError where the system refuses, DataError where a service does.
        """
        if not self._files:
            return
        _settle(target)
        with contextlib.ExitStack() as stack:
            for place, file in self._files:
                stack.enter_context(self._noting(place))
                whole = stack.enter_context(place.whole_file())
                file.seek(0)
                shutil.copyfileobj(file, whole)
                _settle(whole)

    @contextlib.contextmanager
    def removed_on_failure(self) -> Iterator[None]:
        """Leave none of what was put in its place in the block if that does not end well."""
        try:
            yield
        except BaseException:
            for place in self._put:
                with contextlib.suppress(Exception):
                    place.remove_file()
            raise

    def close(self) -> None:
        """Let go of what was not put anywhere."""
        with contextlib.suppress(OSError):  # what there was no room for is tried again, and told already
            self._open.close()

    @contextlib.contextmanager
    def _noting(self, place: Place) -> Iterator[None]:
        """Remember the place where what is within has ended well."""
        yield
        self._put.append(place)


def place_beside(place: Place, name: str) -> Place:
    """A file in the folder of another one: of a link also in that of the file it leads to, if not here.

    name : without folders
    """
    if isinstance(place, LocalPlace):
        path = place.path.with_name(name)
        if place.path.is_symlink() and not path.exists():
            path = Path(os.path.realpath(place.path)).with_name(name)
        return FilePlace(os.fspath(path), path)
    # Deferred, with the libraries of object stores.
    from .url_place import UrlPlace

    assert isinstance(place, UrlPlace)
    return UrlPlace(place.url.above.inside(name), place.access)


def _nameless_file(place: Place) -> IO[bytes]:
    """In the folder of a local file, where there has to be room for what it gets."""
    return tempfile.TemporaryFile(dir=place.path.absolute().parent if isinstance(place, LocalPlace) else None)


def _settle(file: IO[bytes]) -> None:
    """A disk that is full says so now, and not when other files have been replaced."""
    file.flush()
    os.fsync(file.fileno())


def _file_name(place: Place) -> str:
    return place.path.name if isinstance(place, LocalPlace) else place.name.rpartition("/")[2]
