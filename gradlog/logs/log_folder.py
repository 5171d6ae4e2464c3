"""The folder that rows of a log are written into, on a disk or in a bucket: what the writer asks of it."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from zarr.abc.store import Store

    from .object_file import Bytes


class LogFolder(abc.ABC):
    """Objects by their keys below the root of one log, each put in its place whole.

    path : of the log, as messages and readers name it
    """

    path: Path | str

    @abc.abstractmethod
    def occupy(self, *, overwrite: bool, resume: bool) -> bool:
        """Hold the place against other writers, until `release`; whether a log begins there.

        Where one begins the place is empty then: `overwrite` removes a Zarr store, and with `resume` nothing
        was there.

        Raises UsageError for anything else that is there, and where somebody else is writing; DataError where
        a service refuses.
        """

    @abc.abstractmethod
    def release(self) -> None:
        """Let others write the log."""

    @abc.abstractmethod
    def put(self, key: str, pieces: Sequence[Bytes]) -> None:
        """Put one object in its place, whole: a kill leaves the old one or the new one.

        It may be on its way until `wait` returns; the pieces are the caller's again at once.

        Raises OSError that names it, of a bucket DataError; that of an earlier object, too.
        """

    @abc.abstractmethod
    def wait(self) -> None:
        """Return once all objects put so far are where readers find them. Raises as `put`, of any of them."""

    @abc.abstractmethod
    def settle(self) -> None:
        """As `wait`, and until they are on the disk where that was asked for."""

    @abc.abstractmethod
    def exists(self, path: str) -> bool:
        """Whether an object, or a folder of some, is there. Nobody but the writer changes what is."""

    @abc.abstractmethod
    def clear(self, path: str) -> None:
        """Remove all objects below a folder. Raises as `put`."""

    @abc.abstractmethod
    def unseen(self, name: str) -> contextlib.AbstractContextManager[tuple[LogFolder, str]]:
        """Where to make an array so that readers find it, with all that was put, once the block ends well.

        name : path of the array, where nothing is. Gives a folder, and the path of the array in it.
        """

    @abc.abstractmethod
    def keys(self) -> set[str]:
        """All objects that are part of the log or lie beside it. Raises as `put`."""

    @abc.abstractmethod
    def read(self, key: str) -> bytes:
        """The bytes of an object. Raises FileNotFoundError, and as `put`."""

    def expect(self, keys: Iterable[str]) -> None:  # noqa: B027 - a disk needs no word
        """These objects are read next, by `store`."""

    @abc.abstractmethod
    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects, in any order. Raises as `put`."""

    @abc.abstractmethod
    def tidy(self, nodes: Sequence[str]) -> None:
        """Remove what a kill left unfinished, at the root and below `nodes`. Raises as `put`."""

    @abc.abstractmethod
    def store(self) -> Store:
        """To read the log with zarr-python."""


def check_overwritten(path: Path | str, *, overwrite: bool, is_store: bool) -> None:
    """Raise UsageError where what is at `path` is not to be written over. is_store : or nothing at all"""
    if not overwrite:
        raise UsageError(f"{path}: already there; choose another path, resume or overwrite it")
    if not is_store:
        raise UsageError(f"{path}: not a Zarr store, so not overwritten; remove it or choose another path")


@contextlib.contextmanager
def naming(log: Path | str) -> Iterator[None]:
    """Let errors of a piece of work on a log name it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(log)
        elif str(log) not in str(error):
            error.add_note(f"while writing {log}")
        raise
