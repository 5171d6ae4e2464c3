"""A place that a word of the user's names: a log is opened there, results are read and written there."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...errors import UsageError
from ...quick_dataclass import dataclass

if TYPE_CHECKING:
    from zarr.storage import StorePath


@dataclass(frozen=True)
class Entry:
    """What lies in a folder. size : bytes of an object; None of a folder"""

    name: str
    size: int | None


RESULTS = "JSON: results of gradmf analyze go to gradmf compare, bounds or advise"
"""What a file that begins as JSON does is."""
_SHOWN = 4


def begins_as_json(start: bytes) -> bool:
    """Whether these first bytes of a file are those of JSON."""
    return start.lstrip()[:1] in (b"{", b"[")


def some_of(names: Sequence[str]) -> str:
    """The first names of a folder or an archive."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


class Place(abc.ABC):
    """Where a log or results may lie. name : as it was given, for messages"""

    name: str

    @abc.abstractmethod
    def exists(self) -> bool:
        """Whether anything is there. Raises DataError where that cannot be found out."""

    @abc.abstractmethod
    def open(self) -> StorePath:
        """The Zarr node there, for reading.

        Raises
        ------
        StoreNotFoundError : nothing is there
        DataError : what is there is no Zarr store, or cannot be looked at
        """

    @abc.abstractmethod
    def entries(self) -> list[Entry]:
        """What lies right inside, by name; of a file nothing. Raises DataError where it cannot be listed."""

    @abc.abstractmethod
    def describe(self) -> str:
        """What is there and is no Zarr store, in words that say what to give instead."""

    def start(self, count: int) -> bytes:  # noqa: ARG002
        """The first bytes of a file; none of anything else. Raises what reading raises."""
        return b""

    def read(self) -> bytes:
        """All bytes of a file. Raises what reading raises."""
        raise UsageError(f"{self.name}: no file that can be read")

    def copy_to(self, file: IO[bytes]) -> None:
        """Write all bytes of a file to another one. Raises what reading and writing raise."""
        file.write(self.read())

    def check_file(self) -> None:
        """Raise UsageError or DataError where a file cannot be put there, before anything is spent on it."""
        raise UsageError(f"{self.name}: no file can be written there")

    def whole_file(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        """A stream whose bytes stand at the place in one step when the block ends well.

        Raises OSError that names the place where the system refuses, DataError where a service does.
        """
        raise UsageError(f"{self.name}: nothing can be written there")

    def remove_file(self) -> None:
        """Remove a file that was put there. Raises what the system or the service raises."""
        raise UsageError(f"{self.name}: no file can be removed there")

    def whole_folder(self) -> contextlib.AbstractContextManager[Path]:
        """A local folder for the block to fill with a log, which stands at the place once it ends well.

        Nothing is at the place before, nor after a block that did not end well. Raises as `whole_file`.
        """
        raise UsageError(f"{self.name}: no log can be written there")

    def folder_filled(self) -> Path:
        """The local folder in which `whole_folder` has its own filled: there has to be room."""
        raise UsageError(f"{self.name}: no log can be written there")

    def check_free(self) -> None:
        """Raise UsageError where a log cannot be put at the place, before anything is spent on it."""
        raise UsageError(f"{self.name}: no log can be written there")
