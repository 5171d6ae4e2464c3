"""Small chunks packed by zstd or Blosc, as Zarr packs where nobody says otherwise, read from a store's files.

A naive dump has a chunk for each row of each tensor, most of them of a few kilobytes. zarrs and zarr-python
take longer to find out what to read than to read it; here a chunk is opened, read, unpacked and placed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import numpy as np
import zarr
from numcodecs import Zstd
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV2Metadata

from ..quick_dataclass import dataclass
from .uncompressed_chunks import UncompressedChunks, entry_layout, folder_of, is_native
from .zarr_array import GuardedBlosc

SMALL = 64 << 10
"""Bytes of a chunk's entries up to which this is faster than zarrs, which unpacks on all cores."""
CHUNK_SECONDS = 2e-5


@dataclass(frozen=True)
class PackedChunks(UncompressedChunks):
    """As `UncompressedChunks`, of chunks that are unpacked whole, and cut."""

    unpack: Callable[[bytes], Any] = field(kw_only=True, repr=False)

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> PackedChunks | None:
        """None where the array is stored otherwise, in large chunks, or not in a folder."""
        unpack = _UNPACK.get(_packed_by(array.metadata))
        root, entries = folder_of(array), entry_layout(array)
        if unpack is None or root is None or entries is None:
            return None
        found = cls(root, *entries, unpack=unpack)
        return found if found.nbytes <= SMALL else None

    @property
    def chunk_seconds(self) -> float:
        return CHUNK_SECONDS

    @property
    def read_in_part(self) -> bool:
        return False

    @property
    def held_bytes(self) -> int:
        return held_bytes(self.nbytes)

    def _read_file(self, file: int, starts: Sequence[int] | None, target: NDArray[Any]) -> int:
        most = _most(self.nbytes)
        packed = os.read(file, most)
        if len(packed) == most:
            raise ValueError(f"it has {most} bytes or more, of {self.nbytes} bytes of entries")
        entries = np.frombuffer(self.unpack(packed), np.uint8)
        if entries.size != self.nbytes:
            raise ValueError(f"it holds {entries.size} bytes, not {self.nbytes}")
        self._place(entries, starts, target)
        return self.nbytes


def is_small(codecs: Sequence[str], nbytes: int) -> bool:
    """Whether chunks in a folder are read so. codecs : behind `bytes`; nbytes : of a chunk's entries"""
    return len(codecs) == 1 and codecs[0] in _UNPACK and nbytes <= SMALL


def held_bytes(nbytes: int) -> int:
    """Bytes of a chunk, packed and unpacked, that are held beside its place. nbytes : of its entries"""
    return _most(nbytes) + nbytes


def _most(nbytes: int) -> int:
    """Bytes that no chunk's file is longer than: what cannot be packed takes little more."""
    return nbytes + nbytes // 64 + 1024


def _packed_by(metadata: Any) -> str:
    """Name of the one codec that packs the entries of each chunk; empty where there is anything else."""
    if isinstance(metadata, ArrayV2Metadata):
        packer = metadata.compressor if metadata.order == "C" and not metadata.filters else None
        return "" if packer is None else str(packer.codec_id)
    first, *others = [codec.to_dict() for codec in metadata.codecs]
    if len(others) != 1 or first["name"] != "bytes" or not is_native(first):
        return ""
    return str(others[0]["name"])


_UNPACK: dict[str, Callable[[bytes], Any]] = {"zstd": Zstd().decode, "blosc": GuardedBlosc().decode}
"""By the name that Zarr has for a codec: what it packed says itself how."""
