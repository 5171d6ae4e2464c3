"""A tensor of a log that is a Zarr array: what its metadata says, and how it is read."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ...kernels.bfloat16 import widen
from ..errors import DataError
from ..quick_dataclass import dataclass
from .entry_types import EntryType
from .inventory import ChunkInventory
from .log import Tensor
from .places.remote_store import RemoteStore
from .reading import read_box
from .row_ranges import Ranges, read_ranges
from .shard_index import IndexLayout
from .stored_chunks import take_inventory
from .uncompressed_chunks import UncompressedChunks
from .zarr_array import codec_names, inner_codec_names

UNDER_WAY = 64 << 20
"""Bytes that are asked for before the first have come: of 10 Gb/s, what 50 ms bring."""
LARGEST_SHARD = 64 << 20
"""Bytes, not encoded, of a shard that is fetched whole; of larger ones only the chunks that are wanted."""
ZARRS_CHUNK_SECONDS = 3e-5
REMOTE_CHUNK_SECONDS = 1e-3
"""Of many requests that wait together, what each adds."""


@dataclass(frozen=True)
class ZarrTensor(Tensor):
    """A Zarr array with a step axis. Complex entries are a last axis of two real ones.

    array : as stored, decoded by zarr-python; entries : how they are read; step_axis : its number in `array`
    """

    array: zarr.Array[Any] = field(repr=False)
    entries: EntryType
    step_axis: int = 0
    _fast: list[UncompressedChunks | zarr.Array[Any]] = field(default_factory=list, repr=False, compare=False)

    @property
    def dtype(self) -> str:
        """Name of the type of the entries: "float32", "bfloat16", "complex64", "packed int16", ..."""
        return self.entries.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter, without the step axis."""
        return self._rows_first(self.array.shape, self._parts)[1:]

    @property
    def rows(self) -> int:
        """Rows stored, committed or not."""
        return int(self.array.shape[self.step_axis])

    @functools.cached_property
    def made_of(self) -> tuple[int, ...] | None:
        """In a sketch: shape of the parameter whose gradients these sums are made of; None for a copy."""
        declared = self.array.attrs.get("gradlog")
        shape = declared.get("shape") if isinstance(declared, dict) else None
        return tuple(int(extent) for extent in shape) if isinstance(shape, list) else None

    @functools.cached_property
    def chunks(self) -> tuple[int, ...]:
        """What is decoded at once: the chunk shape, or the inner chunk shape of shards.

        Of shards in a bucket, their own: a request fetches one whole, unless it is large.
        """
        return self._rows_first(self.fetched, self._parts)

    @functools.cached_property
    def stored_chunks(self) -> tuple[int, ...]:
        """The chunk shape, or the inner chunk shape of shards."""
        return self._rows_first(self.array.chunks, self._parts)

    @functools.cached_property
    def fetched(self) -> tuple[int, ...]:
        """Shape of what is decoded at once, in the axes of `array`."""
        shards = self.array.shards
        if self.remote is None or shards is None:
            return tuple(self.array.chunks)
        fits = math.prod(shards) * self.array.dtype.itemsize <= LARGEST_SHARD
        return tuple(shards if fits else self.array.chunks)

    @functools.cached_property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard (what is one object in the store), None without sharding."""
        shards = self.array.shards
        return None if shards is None else self._rows_first(shards, self._parts)

    @functools.cached_property
    def entry_bytes(self) -> int:
        """Bytes of one entry as stored and not encoded."""
        return int(self.array.dtype.itemsize) // self.entries.reals

    @property
    def fill_is_finite(self) -> bool:
        """Whether a chunk that is absent reads as finite gradients."""
        fill = np.asarray(self.array.fill_value or 0)
        if self.dtype == "bfloat16":
            fill = widen(fill.astype(np.uint16))
        elif self.entries.packing is not None:
            fill = self.entries.packing.unpack(fill.reshape(1), self.compute_dtype)
        return bool(np.all(np.isfinite(fill)))

    @property
    def absent_rows(self) -> tuple[Ranges, bool]:
        """Rows that came without a gradient, by an attribute of the array."""
        try:
            return read_ranges(self.array.attrs)
        except ValueError as error:
            raise DataError(f"tensor '{self.name}': {error}") from error

    @functools.cached_property
    def in_place(self) -> bool:
        """Entries are decoded right into their place, with nothing to convert or to move."""
        return (
            self.array.dtype == self.compute_dtype
            and self.step_axis == 0
            and self.entries.packing is None
            and self.entries.reals == 1
        )

    @functools.cached_property
    def compressed(self) -> bool:
        """A part of a chunk is not read without all of it: it has to be decoded, or to be waited for."""
        return self.remote is not None or bool(self.array.compressors or self.array.filters)

    @functools.cached_property
    def codecs(self) -> tuple[str, ...]:
        """Names of the codecs, as of `codec_names`."""
        return codec_names(self.array.metadata)

    @property
    def read_in_part(self) -> bool:
        """A piece of a chunk is read without the rest of it."""
        return isinstance(self.fast, UncompressedChunks) and self.fast.read_in_part

    @property
    def decoding_bytes(self) -> int:
        """Bytes of one chunk while it is decoded; none where chunks are read from their files, into place."""
        return self.fast.held_bytes if isinstance(self.fast, UncompressedChunks) else super().decoding_bytes

    @functools.cached_property
    def remote(self) -> RemoteStore | None:
        """The bucket that the chunks lie in, None of those that are near."""
        store = self.array.store_path.store
        return store if isinstance(store, RemoteStore) else None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are to be under way at once."""
        return 0 if self.remote is None else UNDER_WAY

    @functools.cached_property
    def unit(self) -> tuple[int, ...]:
        """What zarrs has to decode whole to be as strict as zarr-python, in the axes of `array`.

        A chunk, or a shard where chunks are checked inside of it.
        """
        if self.array.shards is None:
            return tuple(self.array.chunks)
        if self.remote is not None and self.fetched == tuple(self.array.shards):
            return self.fetched
        checked = "crc32c" in self._inner_codecs and self.checked_index is None
        return tuple(self.array.shards if checked else self.array.chunks)

    @functools.cached_property
    def checked_index(self) -> IndexLayout | None:
        """Of shards whose chunks end in a checksum, which zarrs passes over in shards read in part."""
        if self.array.shards is None or self._inner_codecs[-1] != "crc32c" or self.remote is not None:
            return None  # of a bucket, shards are fetched whole
        return IndexLayout.of(self.array) if self._inner_codecs.count("crc32c") == 1 else None

    @property
    def _inner_codecs(self) -> tuple[str, ...]:
        return inner_codec_names(self.array.metadata)

    @property
    def fast(self) -> UncompressedChunks | zarr.Array[Any] | None:
        """What reads the chunks in place of zarr-python: the files themselves, or zarrs."""
        return self._fast[0] if self._fast else None

    def trust(self, fast: UncompressedChunks | zarr.Array[Any]) -> None:
        """Let it read the chunks. fast : an array as of `padded_array`, or what it stores"""
        self._fast[:] = [fast]

    def distrust(self) -> None:
        """Leave the array to zarr-python: something was refused that that may be able to read."""
        self._fast.clear()

    @property
    def reader(self) -> str:
        """What reads the chunks: "direct" (the files themselves), "zarrs" or "zarr-python"."""
        if self.fast is None:
            return "zarr-python"
        return "direct" if isinstance(self.fast, UncompressedChunks) else "zarrs"

    @property
    def chunk_seconds(self) -> float:
        """What reading a chunk takes, about, beside what its bytes take."""
        if self.remote is not None:
            return REMOTE_CHUNK_SECONDS
        if isinstance(self.fast, UncompressedChunks):
            return self.fast.chunk_seconds
        return super().chunk_seconds if self.fast is None else ZARRS_CHUNK_SECONDS

    @property
    def compute_dtype(self) -> np.dtype[np.floating[Any]]:
        """float64 where entries need it, else float32, which holds the narrower types exactly."""
        return self.entries.compute

    def give_up(self) -> None:
        """End a read that waits for answers, with an error in the thread that waits."""
        if self.remote is not None:
            self.remote.given_up = True

    def read(self, rows: tuple[int, int], box: tuple[slice, ...], out: NDArray[Any], room: int = 0) -> None:
        """Fill `out` (rows, entries of the box) float32 or float64 with gradients. As `reading.read_box`."""
        if self.remote is not None:
            self.remote.given_up = False  # that was another read
        read_box(self, rows, box, out, room)

    def inventory(self, rows: int, *, sizes: bool = False) -> ChunkInventory:
        """As of `take_inventory`, of the array's chunks."""
        return take_inventory(self.name, self.array, rows, axis=self.step_axis, sizes=sizes)

    @property
    def _parts(self) -> tuple[int, ...]:
        return (self.entries.reals,) if self.entries.reals > 1 else ()

    def _rows_first(self, sizes: Sequence[int], parts: tuple[int, ...]) -> tuple[int, ...]:
        at = self.step_axis
        return (sizes[at], *sizes[:at], *sizes[at + 1 :], *parts)
