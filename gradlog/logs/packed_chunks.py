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
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV2Metadata

from ..processors import available_processors
from ..quick_dataclass import dataclass
from .kept_memory import kept_memory, together
from .uncompressed_chunks import Box, Bytes, UncompressedChunks, entry_layout, fill_from, folder_of, is_native
from .zarr_array import GuardedBlosc, GuardedZstd, zstd_size

SMALL = 32 << 10
"""Bytes of a chunk's entries up to which threads would wait for each other longer than they unpack."""
LARGEST = (1 << 31) - (1 << 26)
"""Bytes of a chunk's entries beyond which numcodecs takes none."""
CHUNK_SECONDS = 2e-5


@dataclass(frozen=True)
class PackedChunks(UncompressedChunks):
    """As `UncompressedChunks`, of chunks that are unpacked whole, and cut. packer : name of the codec"""

    packer: str = field(kw_only=True)

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> PackedChunks | None:
        """None where the array is stored otherwise, or not in a folder."""
        packer, root, entries = packed_by(array.metadata), folder_of(array), entry_layout(array)
        if packer is None or root is None or entries is None:
            return None
        found = cls(root, *entries, packer=packer)
        return found if found.nbytes <= LARGEST else None

    def take(self, data: Bytes, starts: Sequence[int] | None, target: NDArray[Any]) -> None:
        """As of `UncompressedChunks`. Raises RuntimeError too."""
        if data.size >= self.file_bytes:
            raise ValueError(f"it has {data.size} bytes, of {self.nbytes} bytes of entries")
        if starts is None and self._told(data) == self.nbytes:
            _CODECS[self.packer].decode(data, target)
        else:
            self._place(self._unpacked(data), starts, target)

    @property
    def file_bytes(self) -> int:
        """Bytes of a chunk's file, at most."""
        return _most(self.nbytes)

    @property
    def chunk_seconds(self) -> float:
        return CHUNK_SECONDS

    @property
    def read_in_part(self) -> bool:
        return False

    @property
    def held_bytes(self) -> int:
        return held_bytes(self.nbytes)

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

    def _read_file(self, file: int, starts: Sequence[int] | None, target: NDArray[Any]) -> int:
        most = _most(self.nbytes)
        if self.nbytes > SMALL:
            found = os.fstat(file).st_size
        else:
            packed = os.read(file, most)
            found = len(packed)
        if found >= most:
            raise ValueError(f"it has {most} bytes or more, of {self.nbytes} bytes of entries")
        if self.nbytes > SMALL:
            self._unpack_large(file, found, starts, target)
        else:
            self._place(self._unpacked(packed), starts, target)
        return self.nbytes

    def _unpack_large(self, file: int, size: int, starts: Sequence[int] | None, target: NDArray[Any]) -> None:
        packed = kept_memory("packed", (size,), np.dtype(np.uint8))
        fill_from(file, 0, [packed])
        if starts is None or self._told(packed) != self.nbytes:
            self.take(packed, starts, target)
        else:
            entries = kept_memory("unpacked", (self.nbytes,), np.dtype(np.uint8))
            _CODECS[self.packer].decode(packed, entries)
            self._place(entries, starts, target)

    def _told(self, packed: Bytes) -> int | None:
        """Bytes of entries that a chunk holds, as its first bytes tell; None where they don't."""
        return blosc_size(packed) if self.packer == "blosc" else zstd_size(packed)

    def _unpacked(self, packed: bytes | Bytes) -> Bytes:
        told = self._told(np.frombuffer(packed, np.uint8))
        if told not in (None, self.nbytes):
            raise ValueError(f"it says that it holds {told} bytes, not {self.nbytes}")
        entries = np.frombuffer(_CODECS[self.packer].decode(packed), np.uint8)
        if entries.size != self.nbytes:
            raise ValueError(f"it holds {entries.size} bytes, not {self.nbytes}")
        return entries


def is_packed(codecs: Sequence[str], nbytes: int) -> bool:
    """Whether chunks in a folder are read so. codecs : behind `bytes`; nbytes : of a chunk's entries"""
    return len(codecs) == 1 and codecs[0] in _CODECS and nbytes <= LARGEST


def blosc_size(packed: Bytes) -> int | None:
    """Bytes of what a chunk of Blosc holds, by its header; None where that was cut off."""
    return int.from_bytes(packed[4:8].tobytes(), "little") if packed.size >= 16 else None


def held_bytes(nbytes: int) -> int:
    """Bytes of a chunk, packed and unpacked, that are held beside its place. nbytes : of its entries"""
    return 2 * nbytes


def _most(nbytes: int) -> int:
    """Bytes that no chunk's file is longer than: what cannot be packed takes little more."""
    return nbytes + nbytes // 64 + 1024


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


_CODECS: dict[str, Any] = {"zstd": GuardedZstd(), "blosc": GuardedBlosc()}
"""By the name that Zarr has for a codec: what it packed says itself how."""
