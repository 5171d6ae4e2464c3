"""Chunks stored as their entries are, each an object of a bucket: a request a chunk, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, cast

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .places.remote_requests import AT_ONCE, together
from .places.remote_store import RemoteStore
from .uncompressed_chunks import Box, UncompressedChunks, chunk_layout, compare_checksum


@dataclass(frozen=True)
class RemoteChunks(UncompressedChunks):
    """As `UncompressedChunks`, `root` a path in the store: a chunk is fetched whole, and cut."""

    store: RemoteStore = field(kw_only=True, repr=False)

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> RemoteChunks | None:
        """None where the array is stored otherwise, or elsewhere than in a bucket."""
        place = array.store_path
        found = chunk_layout(array) if isinstance(place.store, RemoteStore) else None
        if found is None:
            return None
        return cls(f"{place.path}/".lstrip("/"), *found, store=cast("RemoteStore", place.store))

    @property
    def read_in_part(self) -> bool:
        return False

    @property
    def held_bytes(self) -> int:
        return self.file_bytes

    def read(self, where: Box, out: NDArray[Any], room: int = 0) -> None:
        """As of `UncompressedChunks`. Raises RemoteError too. room : bytes that may be under way"""
        if out.size:
            most = min(AT_ONCE, max(1, room // self.file_bytes))
            together(self._read, self._wanted(where, out), most, self.store.check)

    def _read(self, chunk: tuple[int, ...], starts: Sequence[int] | None, target: NDArray[Any]) -> int:
        found = self.store.fetch(f"{self.root}{self.key(chunk)}")
        if found is None:
            return self._leave_out(starts, target)
        data = np.frombuffer(found[0], np.uint8)
        if data.size != self.file_bytes:
            raise ValueError(f"it has {data.size} bytes, not {self.file_bytes}")
        entries = data[: self.nbytes]
        if self.checked:
            compare_checksum(google_crc32c.value(entries), data[self.nbytes :].tobytes())
        self._place(entries, starts, target)
        return data.size
