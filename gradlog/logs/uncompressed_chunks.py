"""Chunks stored as their entries are, read from the files of a store right into their place.

There is nothing to decode. A small chunk takes a quarter of the time that zarrs takes for it. A checksum may
stand behind the entries: then all of a chunk is read and held against it, else only what is wanted.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Any, TypeAlias

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV2Metadata
from zarr.storage import LocalStore

from ..quick_dataclass import dataclass
from .stored_chunks import chunk_keys

Box = tuple[slice, ...]
Bytes: TypeAlias = "NDArray[np.uint8]"

SHORT_ROW = 16 << 10
"""Bytes that take as long to read as to call for: of shorter rows of a chunk no part is read alone."""
LEAST_PIECE = 4096
"""Bytes of a piece that is worth a place of its own in a call; shorter ones are copied from what is read."""
EXTENT_BYTES = 1 << 20
"""Bytes that are read at once to be copied from, or to be checked: other threads wait for a checksum."""
CHECKSUM_BYTES = 4
MOST_PIECES = 512
"""Places that one call fills; systems take 1,024 at most."""
TRIED = 8
"""Chunks that show how long the disk lets one wait."""
WAITING_SECONDS = 2e-4
"""For a chunk, beyond a second for every gigabyte: what takes longer is asked for by many threads at once."""
THREADS = 16
CHUNK_SECONDS = 8e-6


@dataclass(frozen=True)
class UncompressedChunks:
    """The chunks of an array, each a file of its entries in C order and in the processor's byte order.

    root : folder of the array; key : of a chunk's coordinates, below it; shape : of a chunk
    fill : of the dtype; the entries of chunks that are absent
    checked : the crc32c of the entries stands behind them, four bytes, the least first
    """

    root: str
    key: Callable[[tuple[int, ...]], str]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: NDArray[Any] = field(repr=False)
    checked: bool = False

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> UncompressedChunks | None:
        """None where the array is stored otherwise, or elsewhere than in a folder."""
        root = folder_of(array)
        found = chunk_layout(array) if hasattr(os, "preadv") else None
        return None if root is None or found is None else cls(root, *found)

    @property
    def chunk_seconds(self) -> float:
        """What reading a chunk takes, about, beside what its bytes take."""
        return CHUNK_SECONDS

    @property
    def read_in_part(self) -> bool:
        """A piece of a chunk is read without the rest of it."""
        return not self.checked

    @property
    def held_bytes(self) -> int:
        """Bytes of a chunk that are held beside the place that its entries go to."""
        return 0

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes of a chunk's entries."""
        return math.prod(self.shape) * self.dtype.itemsize

    @functools.cached_property
    def file_bytes(self) -> int:
        """Bytes of a chunk's file."""
        return self.nbytes + CHECKSUM_BYTES * self.checked

    def read(self, where: Box, out: NDArray[Any], room: int = 0) -> None:  # noqa: ARG002 - nothing is held
        """Fill `out`, C order, of the array's dtype and of the shape of `where`, slices of the array's axes.

        room : bytes to stay within

        Raises ValueError for a file of another size than a chunk's or one that does not match its checksum,
        and OSError of the system.
        """
        if not out.size:
            return
        wanted = self._wanted(where, out)
        waited = [self._waited(*each) for each in itertools.islice(wanted, TRIED)]
        # A disk lets all of them wait; other threads, that hold the interpreter, only some.
        if min(waited) <= WAITING_SECONDS:
            for each in wanted:
                self._read(*each)
            return
        with ThreadPoolExecutor(THREADS, thread_name_prefix="gradmf-read") as pool:
            for _ in pool.map(lambda each: self._read(*each), wanted):
                pass

    def _waited(self, *arguments: Any) -> float:
        """Seconds that a chunk took beyond what its bytes take."""
        began = time.perf_counter()
        size = self._read(*arguments)
        return time.perf_counter() - began - size / 1e9

    def _wanted(self, where: Box, out: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
        """Arguments of `_read` for each chunk."""
        return self._whole_chunks(where, out) if self._are_whole(where) else self.parts(where, out)

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

    def parts(self, where: Box, out: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
        """Of each chunk its coordinates, where in it what is wanted starts, and where that goes."""
        axes = [list(_cut(part, size)) for part, size in zip(where, self.shape, strict=True)]
        for cuts in itertools.product(*axes):
            chunk, starts, places = zip(*cuts, strict=True)
            target = out[places]
            if target.shape == self.shape and target.flags.c_contiguous:
                yield chunk, None, _bytes(target)
            else:
                yield chunk, starts, target

    def _read(
        self, chunk: tuple[int, ...], starts: Sequence[int] | None, target: NDArray[Any], room: int = 0
    ) -> int:
        """Bytes read. starts : in the chunk, by axis; None for all of it, with `target` as bytes"""
        try:
            file = os.open(f"{self.root}/{self.key(chunk)}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self.leave_out(starts, target)
        try:
            return self._read_file(file, starts, target, room)
        finally:
            os.close(file)

    def _read_file(
        self,
        file: int,
        starts: Sequence[int] | None,
        target: NDArray[Any],
        room: int,  # noqa: ARG002 - nothing is held
    ) -> int:
        """As `_read`, of a chunk's file."""
        if starts is not None:
            self._read_steps(file, self._steps(self.shape, starts, target))
        elif (self.checked and self.nbytes > EXTENT_BYTES) or not self._read_at_once(file, target):
            self._read_steps(file, [[target]])
        return self.nbytes if self.checked else target.nbytes

    def take(self, data: Bytes, starts: Sequence[int] | None, target: NDArray[Any]) -> None:
        """Put what is wanted of a chunk, given as it is stored, into its place. As of `_read`.

        Raises ValueError as `read` does.
        """
        if data.size != self.file_bytes:
            raise ValueError(f"it has {data.size} bytes, not {self.file_bytes}")
        entries = data[: self.nbytes]
        if self.checked:
            compare_checksum(google_crc32c.value(entries), data[self.nbytes :].tobytes())
        self._place(entries, starts, target)

    def leave_out(self, starts: Sequence[int] | None, target: NDArray[Any]) -> int:
        """Fill the place of a chunk that is absent; the bytes read, none. starts, target : as of `_read`"""
        (target.view(self.dtype) if starts is None else target)[...] = self.fill
        return 0

    def _place(self, entries: Bytes, starts: Sequence[int] | None, target: NDArray[Any]) -> None:
        """Of all entries of a chunk, put those that are wanted into their place. starts : as of `_read`"""
        if starts is None:
            target[...] = entries
            return
        inside = tuple(slice(s, s + n) for s, n in zip(starts, target.shape, strict=True))
        target[...] = entries.view(self.dtype).reshape(self.shape)[inside]

    def _read_at_once(self, file: int, target: Bytes) -> bool:
        """Read all of a chunk by one call; False where the system gives less or more."""
        end = bytearray(self.file_bytes - self.nbytes + 1)  # A byte more would be found, too.
        if os.readv(file, (target.data, end)) != self.file_bytes:
            return False
        if self.checked:
            compare_checksum(google_crc32c.value(target), end[:CHECKSUM_BYTES])
        return True

    def _read_steps(self, file: int, steps: Iterable[int | list[Bytes]]) -> None:
        """Let the entries go where they are wanted, and hold all of them against a checksum. As `_steps`."""
        found = os.fstat(file).st_size
        if found != self.file_bytes:
            raise ValueError(f"it has {found} bytes, not {self.file_bytes}")
        offset = checksum = 0
        if not self.checked:
            for step in steps:
                offset = offset + step if isinstance(step, int) else fill_from(file, offset, step)
            return
        for step in steps:
            for pieces in _short(step):
                offset = fill_from(file, offset, pieces)
                for piece in pieces:
                    checksum = google_crc32c.extend(checksum, piece)
        end = np.empty(CHECKSUM_BYTES, np.uint8)
        fill_from(file, offset, [end])
        compare_checksum(checksum, end.tobytes())

    def _steps(
        self, shape: Sequence[int], starts: Sequence[int], target: NDArray[Any]
    ) -> Iterator[int | list[Bytes]]:
        """Of a chunk, or of a piece of one: by turns how many bytes are passed over, and where the next go.

        shape : of the piece, in C order. What the bytes go to has to be filled before the next step is taken.
        """
        row = math.prod(shape[1:]) * self.dtype.itemsize
        yield starts[0] * row
        whole = target.shape[1:] == tuple(shape[1:])
        if whole and target.flags.c_contiguous:
            yield [_bytes(target)]
        elif whole and row >= LEAST_PIECE and target[0].flags.c_contiguous:
            yield [_bytes(each) for each in target]
        elif row <= SHORT_ROW:
            yield from self._copied(shape, starts, target)
        else:
            for each in target:
                yield from self._steps(shape[1:], starts[1:], each)
        yield (shape[0] - starts[0] - target.shape[0]) * row

    def _copied(
        self, shape: Sequence[int], starts: Sequence[int], target: NDArray[Any]
    ) -> Iterator[list[Bytes]]:
        """As `_steps`, of the rows that are wanted, which are read whole and cut."""
        row = math.prod(shape[1:]) * self.dtype.itemsize
        rows = max(1, EXTENT_BYTES // row)
        inside = tuple(slice(s, s + n) for s, n in zip(starts[1:], target.shape[1:], strict=True))
        for at in range(0, target.shape[0], rows):
            some = target[at : at + rows]
            read = np.empty(len(some) * row, np.uint8)
            yield [read]
            some[...] = read.view(self.dtype).reshape(-1, *shape[1:])[:, *inside]


def folder_of(array: zarr.Array[Any]) -> str | None:
    """The folder that an array's chunks lie below; None where they lie elsewhere."""
    place = array.store_path
    return f"{place.store.root}/{place.path}" if type(place.store) is LocalStore else None


def chunk_layout(
    array: zarr.Array[Any],
) -> tuple[Callable[[tuple[int, ...]], str], tuple[int, ...], np.dtype[Any], NDArray[Any], bool] | None:
    """The fields of `UncompressedChunks` behind the first; None where chunks are stored otherwise."""
    checked, entries = checksums(array.metadata), entry_layout(array)
    return None if checked is None or entries is None else (*entries, checked)


def entry_layout(
    array: zarr.Array[Any],
) -> tuple[Callable[[tuple[int, ...]], str], tuple[int, ...], np.dtype[Any], NDArray[Any]] | None:
    """key, shape, dtype and fill, as of `UncompressedChunks`; None for entries that are no such numbers."""
    dtype = np.dtype(array.dtype)
    if not dtype.isnative or dtype.kind not in "iufc":
        return None
    fill = np.asarray(0 if array.fill_value is None else array.fill_value, dtype)
    return chunk_keys(array), tuple(array.chunks), dtype, fill


def checksums(metadata: Any) -> bool | None:
    """Whether a checksum stands behind the entries of each chunk; None where there is anything else.

    metadata : of an array, or the codec of shards, whose chunks lie inside
    """
    if isinstance(metadata, ArrayV2Metadata):
        plain = metadata.compressor is None and not metadata.filters and metadata.order == "C"
        return False if plain else None
    codecs = [codec.to_dict() for codec in metadata.codecs]
    names = [codec["name"] for codec in codecs]
    if names not in (["bytes"], ["bytes", "crc32c"]) or not is_native(codecs[0]):
        return None
    checked = len(names) == 2
    # In Python alone it takes a thousand times as long.
    return None if checked and google_crc32c.implementation != "c" else checked


def is_native(codec: Mapping[str, Any]) -> bool:
    """Whether entries lie in the processor's byte order. codec : Zarr's `bytes`, as metadata has it"""
    return bool(codec.get("configuration", {}).get("endian", sys.byteorder) == sys.byteorder)


def _cut(part: slice, size: int) -> Iterator[tuple[int, int, slice]]:
    """Along an axis, of each chunk its number, where in it what is wanted starts, and where that goes."""
    for chunk in range(part.start // size, -(-part.stop // size)):
        first, stop = max(part.start, chunk * size), min(part.stop, (chunk + 1) * size)
        yield chunk, first - chunk * size, slice(first - part.start, stop - part.start)


def _bytes(target: NDArray[Any]) -> Bytes:
    """The bytes of an array in C order."""
    return target.reshape(-1).view(np.uint8)


def _short(step: int | list[Bytes]) -> Iterator[list[Bytes]]:
    """A step in lists of EXTENT_BYTES in all, or of one piece; what is passed over is read, too."""
    if isinstance(step, int):
        unwanted = np.empty(min(step, EXTENT_BYTES), np.uint8)
        for at in range(0, step, EXTENT_BYTES):
            yield [unwanted[: step - at]]
        return
    pieces = [each[at : at + EXTENT_BYTES] for each in step for at in range(0, each.size, EXTENT_BYTES)]
    count = max(1, EXTENT_BYTES // max(1, step[0].size))
    for at in range(0, len(pieces), count):
        yield pieces[at : at + count]


def compare_checksum(checksum: int, stored: bytes | bytearray) -> None:
    if checksum != int.from_bytes(stored, "little"):
        raise ValueError("it does not match its checksum")


def fill_from(file: int, offset: int, targets: list[Bytes]) -> int:
    """Read what follows byte `offset` into one target after another; returns where that ends.

    Raises ValueError where the file ends before.
    """
    for at in range(0, len(targets), MOST_PIECES):
        left = [target.data for target in targets[at : at + MOST_PIECES]]
        while left:
            found = os.preadv(file, left, offset)
            if not found:
                raise ValueError("it was cut short while it was read")
            offset += found
            while left and found >= left[0].nbytes:
                found -= left.pop(0).nbytes
            if found:
                left[0] = left[0][found:]
    return offset
