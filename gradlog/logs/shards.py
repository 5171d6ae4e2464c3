"""Shards as they are stored, put into their place chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import Any, TypeAlias

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ShardingCodec

from ..quick_dataclass import dataclass
from .kept_memory import kept_memory, together
from .packed_chunks import PackedChunks, WholeChunks, held_bytes, packed_by
from .shard_index import ABSENT, IndexLayout
from .uncompressed_chunks import (
    Box,
    Bytes,
    UncompressedChunks,
    checksums,
    compare_checksum,
    entry_layout,
    fill_from,
    folder_of,
)

Read: TypeAlias = Callable[[int, int], Bytes]
"""Bytes of a shard, from an offset on, so many."""
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
        for offset, length, inside, place in self.stored(_piece_of(data), data.size, starts, target):
            self.chunks.take(data[offset : offset + length], inside, place)

    def stored(
        self, read: Read, size: int, starts: Sequence[int] | None, target: NDArray[Any]
    ) -> Iterator[tuple[int, int, Sequence[int] | None, NDArray[Any]]]:
        """Of each chunk that is wanted where it lies, how long it is, and what of it goes where.

        The places of those that are absent are filled. read : some bytes of the shard, of `size`
        """
        entries = self._entries(read, size)
        if starts is None:
            starts, target = (0,) * len(self.shape), target.view(self.chunks.dtype).reshape(self.shape)
        where = tuple(slice(s, s + n) for s, n in zip(starts, target.shape, strict=True))
        for chunk, inside, place in self.chunks.parts(where, target):
            offset, length = entries[chunk].tolist()
            if offset == length == _ABSENT:
                self.chunks.leave_out(inside, place)
                continue
            if offset + length > size:
                raise ValueError("a chunk past the end of its shard")
            if length > self.chunks.file_bytes:
                raise ValueError(f"a chunk of {length} bytes, {self.chunks.file_bytes} at most")
            yield offset, length, inside, place

    def _entries(self, read: Read, size: int) -> NDArray[np.uint64]:
        if size < self.index.nbytes:
            raise ValueError("a shard without its whole index")
        raw = read(size - self.index.nbytes if self.index.at_end else 0, self.index.nbytes)
        if self.index.checked:
            compare_checksum(google_crc32c.value(np.ascontiguousarray(raw[:-4])), raw[-4:].tobytes())
        return self.index.entries(raw.tobytes())


def _piece_of(data: Bytes) -> Read:
    return lambda offset, length: data[offset : offset + length]


@dataclass(frozen=True)
class FileShards(WholeChunks):
    """Each shard is a file. shape : of a shard; content : how it is stored"""

    content: Shards = field(kw_only=True, repr=False)

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> FileShards | None:
        """None where the array has none, stores them otherwise, or elsewhere than in a folder."""
        root, content, entries = folder_of(array), Shards.of(array), entry_layout(array)
        if root is None or content is None or entries is None or not hasattr(os, "preadv"):
            return None
        key, _, dtype, fill = entries
        return cls(root, key, content.shape, dtype, fill, content=content)

    @property
    def held_bytes(self) -> int:
        return held_bytes(self.content.chunks.nbytes)

    def read(self, where: Box, out: NDArray[Any], room: int = 0) -> None:
        """As of `UncompressedChunks`. Raises RuntimeError too."""
        for shard, starts, target in self._wanted(where, out) if out.size else ():
            self._read(shard, starts, target, room)

    def _read_file(self, file: int, starts: Sequence[int] | None, target: NDArray[Any], room: int) -> int:
        chunks, size = self.content.chunks, os.fstat(file).st_size
        found = self.content.stored(_pieces_of(file), size, starts, target)
        threads = chunks.threads(room) if isinstance(chunks, PackedChunks) else 1
        together(self._take, [(file, *each) for each in found], threads)
        return size

    def _take(
        self, file: int, offset: int, length: int, starts: Sequence[int] | None, target: NDArray[Any]
    ) -> None:
        self.content.chunks.take(_pieces_of(file)(offset, length), starts, target)


def _pieces_of(file: int) -> Read:
    def read(offset: int, length: int) -> Bytes:
        piece = kept_memory("piece", (length,), np.dtype(np.uint8))
        fill_from(file, offset, [piece])
        return piece

    return read
