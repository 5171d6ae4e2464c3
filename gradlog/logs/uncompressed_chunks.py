"""Chunks stored as their entries are, read from the files of a store right into their place.

There is nothing to decode. A small chunk takes a quarter of the time that zarrs takes for it, and of a large
one only what is wanted is read.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV2Metadata
from zarr.storage import LocalStore

from .stored_chunks import chunk_keys

Box = tuple[slice, ...]

SHORT_ROW = 16 << 10
"""Bytes that take as long to read as to call for: of shorter rows of a chunk no part is read alone."""
LEAST_PIECE = 4096
"""Bytes of a piece that is worth a place of its own in a call; shorter ones are copied from what is read."""
EXTENT_BYTES = 1 << 20
"""Bytes that are read at once to be copied from."""
MOST_PIECES = 512
"""Places that one call fills; systems take 1,024 at most."""
TRIED = 4
"""Chunks that show how long the disk lets one wait."""
WAITING_SECONDS = 2e-4
"""For a chunk, beyond a second for every gigabyte: what takes longer is asked for by many threads at once."""
THREADS = 16


@dataclass(frozen=True)
class UncompressedChunks:
    """The chunks of an array, each a file of its entries in C order and in the processor's byte order.

    root : folder of the array; key : of a chunk's coordinates, below it; shape : of a chunk
    fill : of the dtype; the entries of chunks that are absent
    """

    root: str
    key: Callable[[tuple[int, ...]], str]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: NDArray[Any] = field(repr=False)

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> UncompressedChunks | None:
        """None where the array is stored otherwise, or elsewhere than in a folder."""
        place, dtype = array.store_path, np.dtype(array.dtype)
        if type(place.store) is not LocalStore or not hasattr(os, "preadv"):
            return None
        if not dtype.isnative or dtype.kind not in "iufc" or not _is_plain(array.metadata):
            return None
        root = f"{place.store.root}/{place.path}"
        fill = np.asarray(0 if array.fill_value is None else array.fill_value, dtype)
        return cls(root, chunk_keys(array), tuple(array.chunks), dtype, fill)

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes of a chunk, and of its file."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, where: Box, out: NDArray[Any]) -> None:
        """Fill `out`, C order, of the array's dtype and of the shape of `where`, slices of the array's axes.

        Raises ValueError for a file of another size than a chunk's, and OSError of the system.
        """
        if not out.size:
            return
        wanted = self._whole_chunks(where, out) if self._are_whole(where) else self._parts(where, out)
        began = time.perf_counter()
        size = sum(itertools.starmap(self._read, itertools.islice(wanted, TRIED)))
        if time.perf_counter() - began <= TRIED * WAITING_SECONDS + size / 1e9:
            for each in wanted:
                self._read(*each)
            return
        with ThreadPoolExecutor(THREADS, thread_name_prefix="gradmf-read") as pool:
            for _ in pool.map(lambda each: self._read(*each), wanted):
                pass

    def _are_whole(self, where: Box) -> bool:
        """Whether nothing but whole chunks is wanted, and they follow each other in memory as they are."""
        first, *others = ((part, size) for part, size in zip(where, self.shape, strict=True))
        one = all(part.start % size == 0 and part.stop - part.start == size for part, size in others)
        return one and first[0].start % first[1] == 0 and first[0].stop % first[1] == 0

    def _whole_chunks(self, where: Box, out: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
        first, *others = (part.start // size for part, size in zip(where, self.shape, strict=True))
        chunks = out.reshape(-1).view(np.uint8).reshape(-1, self.nbytes)
        for number, target in enumerate(chunks, first):
            yield (number, *others), None, target

    def _parts(self, where: Box, out: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
        """Of each chunk its coordinates, where in it what is wanted starts, and where that goes."""
        axes = [list(_cut(part, size)) for part, size in zip(where, self.shape, strict=True)]
        for cuts in itertools.product(*axes):
            chunk, starts, places = zip(*cuts, strict=True)
            yield chunk, starts, out[places]

    def _read(self, chunk: tuple[int, ...], starts: Sequence[int] | None, target: NDArray[Any]) -> int:
        """Bytes read. starts : in the chunk, by axis; None for all of it, with `target` as bytes"""
        try:
            file = os.open(f"{self.root}/{self.key(chunk)}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            (target.view(self.dtype) if starts is None else target)[...] = self.fill
            return 0
        try:
            if starts is not None:
                self._check_size(file)
                self._read_part(file, 0, self.shape, starts, target)
            # A byte more would be found, too. The system may give less at once than there is.
            elif os.readv(file, (_buffer(target), bytearray(1))) != self.nbytes:
                self._check_size(file)
                _fill(file, 0, [_buffer(target)])
        finally:
            os.close(file)
        return target.nbytes

    def _check_size(self, file: int) -> None:
        found = os.fstat(file).st_size
        if found != self.nbytes:
            raise ValueError(f"it has {found} bytes, not {self.nbytes}")

    def _read_part(
        self, file: int, offset: int, shape: Sequence[int], starts: Sequence[int], target: NDArray[Any]
    ) -> None:
        """Of a chunk, or of a piece of one: `shape` entries in C order from byte `offset` on."""
        row = math.prod(shape[1:]) * self.dtype.itemsize
        offset += starts[0] * row
        whole = target.shape[1:] == tuple(shape[1:])
        if whole and target.flags.c_contiguous:
            _fill(file, offset, [_buffer(target)])
        elif whole and row >= LEAST_PIECE and target[0].flags.c_contiguous:
            _fill(file, offset, [_buffer(each) for each in target])
        elif row <= SHORT_ROW:
            self._copy(file, offset, shape, starts, target)
        else:
            for number, each in enumerate(target):
                self._read_part(file, offset + number * row, shape[1:], starts[1:], each)

    def _copy(
        self, file: int, offset: int, shape: Sequence[int], starts: Sequence[int], target: NDArray[Any]
    ) -> None:
        """As `_read_part`, from the file's byte `offset` on, where the first row wanted starts."""
        row = math.prod(shape[1:]) * self.dtype.itemsize
        rows = max(1, EXTENT_BYTES // row)
        inside = tuple(slice(s, s + n) for s, n in zip(starts[1:], target.shape[1:], strict=True))
        for at in range(0, target.shape[0], rows):
            some = target[at : at + rows]
            read = np.empty(len(some) * row, np.uint8)
            _fill(file, offset + at * row, [read.data])
            some[...] = read.view(self.dtype).reshape(-1, *shape[1:])[:, *inside]


def _is_plain(metadata: Any) -> bool:
    if isinstance(metadata, ArrayV2Metadata):
        return metadata.compressor is None and not metadata.filters and metadata.order == "C"
    codecs = [codec.to_dict() for codec in metadata.codecs]
    if [codec["name"] for codec in codecs] != ["bytes"]:
        return False
    return bool(codecs[0].get("configuration", {}).get("endian", sys.byteorder) == sys.byteorder)


def _cut(part: slice, size: int) -> Iterator[tuple[int, int, slice]]:
    """Along an axis, of each chunk its number, where in it what is wanted starts, and where that goes."""
    for chunk in range(part.start // size, -(-part.stop // size)):
        first, stop = max(part.start, chunk * size), min(part.stop, (chunk + 1) * size)
        yield chunk, first - chunk * size, slice(first - part.start, stop - part.start)


def _buffer(target: NDArray[Any]) -> memoryview:
    """The bytes of an array in C order."""
    return target.reshape(-1).view(np.uint8).data


def _fill(file: int, offset: int, targets: list[memoryview]) -> None:
    """Read what follows byte `offset` into one target after another. Raises ValueError where it ends."""
    for at in range(0, len(targets), MOST_PIECES):
        left = targets[at : at + MOST_PIECES]
        while left:
            found = os.preadv(file, left, offset)
            if not found:
                raise ValueError("it was cut short while it was read")
            offset += found
            while left and found >= left[0].nbytes:
                found -= left.pop(0).nbytes
            if found:
                left[0] = left[0][found:]
