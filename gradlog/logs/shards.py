"""Shards as they are stored, put into their place chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ShardingCodec

from ..quick_dataclass import dataclass
from .packed_chunks import PackedChunks, packed_by
from .shard_index import ABSENT, IndexLayout
from .uncompressed_chunks import Bytes, UncompressedChunks, checksums, compare_checksum, entry_layout

_ABSENT = int(ABSENT)


@dataclass(frozen=True)
class Shards:
    """shape : of a shard; chunks : how those inside are stored, without a place; index : how it is stored"""

    shape: tuple[int, ...]
    chunks: UncompressedChunks
    index: IndexLayout

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> Shards | None:
        """None where the array has none, or stores them in a way that isn't known here."""
        codecs = tuple(getattr(array.metadata, "codecs", ()))
        entries = entry_layout(array)
        if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec) or entries is None:
            return None
        index, checked, packer = IndexLayout.of(array), checksums(codecs[0]), packed_by(codecs[0])
        if index is None or (checked is None and packer is None):
            return None
        chunks = (
            PackedChunks("", *entries, packer=packer)
            if packer is not None
            else UncompressedChunks("", *entries, bool(checked))
        )
        return cls(tuple(array.shards or ()), chunks, index)

    @property
    def file_bytes(self) -> int:
        """Bytes of a shard that is stored, at most."""
        return self.index.nbytes + int(np.prod(self.index.inner)) * self.chunks.file_bytes

    def take(self, data: Bytes, starts: Sequence[int] | None, target: NDArray[Any]) -> None:
        """As of `UncompressedChunks`, of a shard. Raises RuntimeError too."""
        entries = self._entries(data)
        if starts is None:
            starts, target = (0,) * len(self.shape), target.view(self.chunks.dtype).reshape(self.shape)
        where = tuple(slice(s, s + n) for s, n in zip(starts, target.shape, strict=True))
        for chunk, inside, place in self.chunks.parts(where, target):
            offset, length = entries[chunk].tolist()
            if offset == length == _ABSENT:
                self.chunks.leave_out(inside, place)
                continue
            if offset + length > data.size:
                raise ValueError("a chunk past the end of its shard")
            self.chunks.take(data[offset : offset + length], inside, place)

    def _entries(self, data: Bytes) -> NDArray[np.uint64]:
        size = self.index.nbytes
        if data.size < size:
            raise ValueError("a shard without its whole index")
        raw = data[data.size - size :] if self.index.at_end else data[:size]
        if self.index.checked:
            compare_checksum(google_crc32c.value(np.ascontiguousarray(raw[:-4])), raw[-4:].tobytes())
        return self.index.entries(raw.tobytes())
