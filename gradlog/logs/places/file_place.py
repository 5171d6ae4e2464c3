"""A file that is no zip archive: results in JSON, or nothing that gradmf reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import DataError
from ..example_stores import example_store
from .local_place import LocalPlace
from .place import RESULTS, begins_as_json

if TYPE_CHECKING:
    from zarr.storage import StorePath


class FilePlace(LocalPlace):
    """Of a file that is there."""

    def open(self) -> StorePath:
        raise DataError(f"{self.name}: not a Zarr store: {self.describe()}")

    def describe(self) -> str:
        if (examples := example_store(self.path)) is not None:
            return examples
        try:
            start = self.start(64)
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        if begins_as_json(start):
            return RESULTS
        hint = " (cut short?)" if self.path.suffix == ".zip" or start.lstrip()[:2] == b"PK" else ""
        return (
            f"a file of {self.path.stat().st_size} bytes that is no zip archive{hint}; "
            "give the folder or zip file of a Zarr store"
        )

    def start(self, count: int) -> bytes:
        with self.path.open("rb") as file:
            return file.read(count)

    def read(self) -> bytes:
        return self.path.read_bytes()
