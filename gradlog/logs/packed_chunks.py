"""Chunks packed by zstd or Blosc, as Zarr packs where nobody says otherwise, read from a store's files.

A naive dump has a chunk for each row of each tensor, many of them of a few kilobytes: zarrs and zarr-python
take longer to find out what to read than to read it. Large chunks they unpack into memory that is new each
time, and copy; here they are unpacked right into their place, or into memory that is kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV2Metadata

from ..processors import available_processors
from ..quick_dataclass import dataclass
from .kept_memory import kept_memory, together
from .uncompressed_chunks import Box, Bytes, UncompressedChunks, entry_layout, fill_from, folder_of, is_native
from .zarr_array import GuardedBlosc, zstd_size

SMALL = 32 << 10
"""Bytes of a chunk's entries up to which threads would wait for each other longer than they unpack."""
LARGEST = (1 << 31) - (1 << 26)
"""Bytes of a chunk's entries beyond which numcodecs takes none."""
CHUNK_SECONDS = 2e-5


class WholeChunks(UncompressedChunks):
    """As `UncompressedChunks`, of chunks that are taken whole, and cut."""

    @property
    def chunk_seconds(self) -> float:
        return CHUNK_SECONDS

    @property
    def read_in_part(self) -> bool:
        return False

    @property
    def held_bytes(self) -> int:
        return held_bytes(self.nbytes)


@dataclass(frozen=True)
class PackedChunks(WholeChunks):
    """packer : name of the codec"""

    packer: str = field(kw_only=True)

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> PackedChunks | None:
        """None where the array is stored otherwise, or not in a folder."""
        packer, root, entries = packed_by(array.metadata), folder_of(array), entry_layout(array)
        if packer is None or root is None or entries is None:
            return None
        found = cls(root, *entries, packer=packer)
        return found if found.nbytes <= LARGEST else None

    @property
    def file_bytes(self) -> int:
        """Bytes that no chunk's file is as long as: what cannot be packed takes little more."""
        return self.nbytes + self.nbytes // 64 + 1024

    def take(self, data: Bytes, starts: Sequence[int] | None, target: NDArray[Any]) -> None:
        """As of `UncompressedChunks`. Raises RuntimeError too."""
        self._unpack(data, starts, target, keep=False)

    def read(self, where: Box, out: NDArray[Any], room: int = 0) -> None:
        """As of `UncompressedChunks`. Raises RuntimeError too, for what cannot be unpacked."""
        if self.nbytes <= SMALL:
            super().read(where, out, room)
            return
        if out.size:
            together(self._read, list(self._wanted(where, out)), self.threads(room))

    def threads(self, room: int) -> int:
        """That unpack at once. room : bytes to stay within"""
        if self.nbytes <= SMALL:
            return 1
        return min(available_processors(), max(1, room // self.held_bytes))

    def _read_file(
        self,
        file: int,
        starts: Sequence[int] | None,
        target: NDArray[Any],
        room: int,  # noqa: ARG002 - `read` stays within it
    ) -> int:
        if self.nbytes <= SMALL:
            packed = np.frombuffer(os.read(file, self.file_bytes), np.uint8)
        else:
            size = min(os.fstat(file).st_size, self.file_bytes)
            packed = kept_memory("packed", (size,), np.dtype(np.uint8))
            fill_from(file, 0, [packed])
        self._unpack(packed, starts, target, keep=True)
        return self.nbytes

    def _unpack(
        self, packed: Bytes, starts: Sequence[int] | None, target: NDArray[Any], *, keep: bool
    ) -> None:
        """As `take`. keep : the thread may keep the memory that it needs"""
        if packed.size >= self.file_bytes:
            raise ValueError(f"it has {packed.size} bytes or more, of {self.nbytes} bytes of entries")
        told, codec = self._told(packed), _CODECS[self.packer]
        entries = np.frombuffer(codec.decode(packed), np.uint8) if told is None else None
        size = told if entries is None else entries.size
        if size != self.nbytes:
            raise ValueError(f"it holds {size} bytes, not {self.nbytes}")
        if entries is None and starts is None:
            codec.decode(packed, target)
            return
        if entries is None:
            byte = np.dtype(np.uint8)
            entries = kept_memory("unpacked", (size,), byte) if keep else np.empty(size, byte)
            codec.decode(packed, entries)
        self._place(entries, starts, target)

    def _told(self, packed: Bytes) -> int | None:
        """Bytes of entries that a chunk holds, as its first bytes tell; None where they don't."""
        return blosc_size(packed) if self.packer == "blosc" else zstd_size(packed)


def is_packed(codecs: Sequence[str], nbytes: int) -> bool:
    """Whether chunks in a folder are read so. codecs : behind `bytes`; nbytes : of a chunk's entries"""
    return len(codecs) == 1 and codecs[0] in _CODECS and nbytes <= LARGEST


def blosc_size(packed: Bytes) -> int | None:
    """Bytes of what a chunk of Blosc holds, by its header; None where that was cut off."""
    return int.from_bytes(packed[4:8].tobytes(), "little") if packed.size >= 16 else None


def held_bytes(nbytes: int) -> int:
    """Bytes of a chunk, packed and unpacked, that are held beside its place. nbytes : of its entries"""
    return 2 * nbytes


def packed_by(metadata: Any) -> str | None:
    """Name of the one codec that packs the entries of each chunk; None where there is anything else.

    metadata : as of `checksums`
    """
    if isinstance(metadata, ArrayV2Metadata):
        packer = metadata.compressor if metadata.order == "C" and not metadata.filters else None
        name = "" if packer is None else str(packer.codec_id)
    else:
        first, *others = [codec.to_dict() for codec in metadata.codecs]
        plain = len(others) == 1 and first["name"] == "bytes" and is_native(first)
        name = str(others[0]["name"]) if plain else ""
    return name if name in _CODECS else None


_CODECS: dict[str, Any] = {"zstd": Zstd(), "blosc": GuardedBlosc()}
"""By the name that Zarr has for a codec: what it packed says itself how."""
