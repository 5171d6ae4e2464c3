"""A folder: of a Zarr store, or of the stores of the ranks of one run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from zarr.storage import LocalStore, StorePath

from ...errors import DataError
from ..example_stores import example_store
from ..rank_folders import holds_ranks
from ..root_keys import is_zarr_node
from .local_place import LocalPlace
from .place import Entry, some_of


class FolderPlace(LocalPlace):
    """Of a folder that is there."""

    def open(self) -> StorePath:
        root = StorePath(LocalStore(self.path, read_only=True))
        if not self._is_node() and not holds_ranks(root):
            raise DataError(f"{self.name}: not a Zarr store: {self.describe()}")
        return root

    def entries(self) -> list[Entry]:
        with self._scanned() as found:
            entries = [Entry(e.name, None if e.is_dir() else e.stat().st_size) for e in found]
        return sorted(entries, key=lambda entry: entry.name)

    def describe(self) -> str:
        if (examples := example_store(self.path)) is not None:
            return examples
        names = [entry.name for entry in self.entries()]
        if not names:
            return "the folder is empty"
        stores = [name for name in names if is_zarr_node(self.path / name)]
        if stores:
            return f"but {len(stores)} inside it, such as {self.path / stores[0]}; give that path"
        return f"the folder has no zarr.json, .zgroup or .zarray; it holds {some_of(names)}"

    def _is_node(self) -> bool:
        with self._scanned():  # what cannot be listed would look like a store without arrays
            return is_zarr_node(self.path)

    @contextlib.contextmanager
    def _scanned(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """What the system lists in it. Raises DataError that names it, also for what fails in the block."""
        try:
            with os.scandir(self.path) as found:
                yield found
        except OSError as error:
            raise DataError(f"{self.name}: the folder cannot be read: {error.strerror or error}") from error
