"""Chunks and shards, each an object of a bucket: a request for each, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .packed_chunks import PackedChunks, WholeChunks, packed_by
from .places.remote_requests import AT_ONCE, together
from .places.remote_store import RemoteStore
from .shards import Shards
from .uncompressed_chunks import Box, UncompressedChunks, chunk_layout, entry_layout


@dataclass(frozen=True)
class RemoteChunks(WholeChunks):
    """As `UncompressedChunks`, of objects that are fetched whole, and cut.

    root : a path in the store; shape : of what an object holds; content : how it is stored there
    """

    store: RemoteStore = field(kw_only=True, repr=False)
    content: UncompressedChunks | Shards = field(kw_only=True, repr=False)

    @classmethod
    def fetched_as(cls, array: zarr.Array[Any], fetched: tuple[int, ...]) -> RemoteChunks | None:
        """None where the array is stored otherwise, or elsewhere than in a bucket.

        fetched : shape of what is fetched at once; of larger shards it is a chunk inside
        """
        place, entries = array.store_path, entry_layout(array)
        if not isinstance(place.store, RemoteStore) or entries is None:
            return None
        content = _content(array)
        if content is None or content.shape != fetched:
            return None
        key, _, dtype, fill = entries
        root = f"{place.path}/".lstrip("/")
        return cls(root, key, content.shape, dtype, fill, store=place.store, content=content)

    @property
    def file_bytes(self) -> int:
        """Bytes of an object, at most."""
        return self.content.file_bytes

    @property
    def held_bytes(self) -> int:
        return self.file_bytes if type(self.content) is UncompressedChunks else super().held_bytes

    def read(self, where: Box, out: NDArray[Any], room: int = 0) -> None:
        """As of `UncompressedChunks`. Raises RemoteError and RuntimeError too. room : bytes under way"""
        if out.size:
            most = min(AT_ONCE, max(1, room // self.held_bytes))
            together(self._read, self._wanted(where, out), most, self.store.check)

    def _read(
        self,
        chunk: tuple[int, ...],
        starts: Sequence[int] | None,
        target: NDArray[Any],
        room: int = 0,  # noqa: ARG002 - `read` stays within it
    ) -> int:
        found = self.store.fetch(f"{self.root}{self.key(chunk)}")
        if found is None:
            return self.leave_out(starts, target)
        data = np.frombuffer(found[0], np.uint8)
        self.content.take(data, starts, target)
        return data.size


def _content(array: zarr.Array[Any]) -> UncompressedChunks | Shards | None:
    if array.shards is not None:
        return Shards.of(array)
    layout, entries, packer = chunk_layout(array), entry_layout(array), packed_by(array.metadata)
    if layout is not None:
        return UncompressedChunks("", *layout)
    return None if packer is None or entries is None else PackedChunks("", *entries, packer=packer)
