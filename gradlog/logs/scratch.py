"""Scratch files: cells of the chunk grid, too tall for memory, decoded once and then read in pieces.

A cell is what the chunks along the step axis have in common: some columns of a tensor. A block of all rows of
a piece of a cell would have every chunk of the cell decoded, once for each piece. Here they are decoded once,
a band of rows at a time, and written uncompressed to a file without a name, which the system removes with the
process, however that ends.

In the file a cell is cut into panels of PANEL_BYTES a row, each with all of its rows in one piece: a piece of
the cell is a few large reads then, and so is a band of rows a few large writes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.bfloat16 import widen_into
from ..errors import DataError, GradmfError, UsageError, first_line
from ..quick_dataclass import dataclass
from .inventory import ChunkInventory
from .log import Tensor
from .places.finding import local_path

Box = tuple[slice, ...]
Columns = slice | NDArray[np.intp]

PANEL_BYTES = 32 << 10
"""Bytes of a panel's row: two tiles of float32, whose borders pieces end at where they can."""
BAND_BYTES = 16 << 20
CHUNKS_AT_ONCE = 4
"""Bytes, or chunks, to decode before they are written, so that threads share them, where there is room."""
READ_BYTES = 1 << 20
"""Bytes read at once of what is then cut or converted: they stay in the second cache."""
ROWS_AT_ONCE = 1024
"""Places that one call of the system takes bytes to: the least that IOV_MAX is on any of today's."""


class ScratchError(GradmfError, OSError):
    """The scratch folder is lost, is not to be written to, or has no room."""

    # OSError would show an errno.
    __str__ = Exception.__str__


@dataclass(frozen=True)
class _Entries:
    """How a tensor's entries stand in the file: in 16 bits where they come from there, else as computed with.

    stored : their dtype there; name : of the type of the entries, as of `Tensor.dtype`
    """

    stored: np.dtype[Any]
    name: str

    @classmethod
    def of(cls, tensor: Tensor) -> _Entries:
        narrow = {"float16": np.float16, "bfloat16": np.uint16}
        stored = np.dtype(narrow.get(tensor.dtype, tensor.compute_dtype))
        return cls(stored, tensor.dtype)

    def pack(self, values: NDArray[Any]) -> NDArray[Any]:
        """As they stand in the file, in C order. values : (R, W) float32 or float64"""
        if self.name == "bfloat16":
            return (np.ascontiguousarray(values).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        return np.ascontiguousarray(values, self.stored)

    def unpack(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out` (R, W) float32 or float64 with the values."""
        if self.name == "bfloat16":
            widen_into(stored, out)
        else:
            out[...] = stored


@dataclass
class _File:
    """One cell's file; users : threads that read it."""

    stream: IO[bytes]
    size: int
    users: int = 0


class Scratch:
    """A folder for scratch files, of which the least recently read give way to new ones.

    A context manager: at its end, as at that of the process, the files are gone. They have no names, where
    the system allows that; else their names start with "gradmf-".

    folder : has to exist; capacity : bytes to keep at most, as of `bytes_needed`; logs : paths of logs, whose
    folders nothing is written into
    """

    def __init__(
        self, folder: str | os.PathLike[str], capacity: int, logs: Sequence[str | os.PathLike[str]] = ()
    ) -> None:
        self.folder = Path(folder)
        self.capacity = capacity
        self._logs = tuple(os.fspath(log) for log in logs)
        self._closed = self._given_up = False
        self.written = 0
        """Bytes written so far."""
        self._files: dict[tuple[int, tuple[int, ...]], _File] = {}
        self._turn = threading.Lock()
        self._count = itertools.count()

    def __enter__(self) -> Scratch:
        """Raises UsageError and ScratchError as of `check`."""
        self.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def give_up(self) -> None:
        """End the writing of a file in another thread, which raises ScratchError there, soon."""
        self._given_up = True

    def close(self) -> None:
        """Drop all files, and give up the one that is written in another thread."""
        self._closed = True
        with self._turn:
            while self._files:
                self._drop_oldest()

    def check(self) -> None:
        """Hold the folder against what is asked of it; nothing is written.

        Raises
        ------
        UsageError : it is the folder of a log, or lies in one
        ScratchError : it cannot be written to, or has no room for `capacity` bytes
        """
        own = self.folder.resolve()
        for log in self._logs:
            with contextlib.suppress(DataError):  # what lies elsewhere
                if local_path(log).resolve() in (own, *own.parents):
                    raise UsageError(f"scratch folder {self.folder}: it lies in the log {log}; give another")
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise self._error(error) from error
        if not self.folder.is_dir():
            raise ScratchError(f"scratch folder {self.folder}: not a directory")
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ScratchError(f"scratch folder {self.folder}: it cannot be written to")
        if free < self.capacity:
            raise ScratchError(
                f"scratch folder {self.folder}: {self.capacity:,} bytes are needed, {free:,} are free"
            )

    def hold(self, tensor: Tensor, rows: tuple[int, int]) -> ScratchTensor:
        """The same tensor, read from here. rows : (first, last + 1) of the rows that will be read"""
        return ScratchTensor(tensor.name, tensor, rows, self, next(self._count))

    @contextlib.contextmanager
    def _cell(self, tensor: ScratchTensor, cell: tuple[int, ...], room: int) -> Iterator[int]:
        """The descriptor of a cell's file, which is written if need be, for the block to read."""
        key = (tensor.number, cell)
        with self._turn:
            file = self._files.pop(key, None) or self._write(tensor, cell, room)
            self._files[key] = file  # the last one to give way
            file.users += 1
        try:
            yield file.stream.fileno()
        except OSError as error:
            raise error if isinstance(error, GradmfError) else self._error(error) from error
        finally:
            with self._turn:
                file.users -= 1
                if not file.users and self._files.get(key) is not file:
                    file.stream.close()

    def _write(self, tensor: ScratchTensor, cell: tuple[int, ...], room: int) -> _File:
        self._given_up = False
        size = tensor.cell_bytes(cell)
        self._make_room(size)
        try:
            stream = tempfile.TemporaryFile(dir=self.folder, prefix="gradmf-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._error(error) from error
        try:
            for offset, data in tensor.decoded(cell, room):
                if self._closed or self._given_up:
                    raise ScratchError(f"scratch folder {self.folder}: it was given up")
                try:
                    _write_all(stream.fileno(), data, offset)
                except OSError as error:
                    raise self._error(error, size) from error
                self.written += data.nbytes
        except BaseException:
            stream.close()
            raise
        return _File(stream, size)

    def _make_room(self, size: int) -> None:
        """Drop files until `size` more bytes are within the capacity, or none is left."""
        while self._files and sum(file.size for file in self._files.values()) + size > self.capacity:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """The least recently read file, which is gone once no thread reads it any more."""
        file = self._files.pop(next(iter(self._files)))
        if not file.users:
            file.stream.close()

    def _error(self, error: OSError, size: int = 0) -> ScratchError:
        """In one line. size : bytes of the file that was being written"""
        text = f"scratch folder {self.folder}: {error.strerror or first_line(error)}"
        if size:
            text += f" after {self.written:,} bytes; {max(size, self.capacity):,} are needed at once"
            with contextlib.suppress(OSError):
                text += f", {shutil.disk_usage(self.folder).free:,} are free"
        return ScratchError(text)


@dataclass(frozen=True)
class ScratchTensor(Tensor):
    """A tensor whose chunks are decoded once, into a scratch file, and read from there.

    It has the chunk grid of `source`, stored as it is: reading a piece costs no more than its bytes. Threads
    may read at once.

    rows_held : (first, last + 1) of the rows that are read; number : among the tensors of `scratch`
    """

    source: Tensor
    rows_held: tuple[int, int]
    scratch: Scratch = field(repr=False, compare=False)
    number: int = 0

    @property
    def rows(self) -> int:
        """Rows stored, committed or not."""
        return self.source.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter, without the step axis."""
        return self.source.shape

    @property
    def dtype(self) -> str:
        """Name of the type of the entries, as of `source`."""
        return self.source.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is decoded at once in `source`."""
        return self.source.chunks

    @property
    def compute_dtype(self) -> np.dtype[np.floating[Any]]:
        """As of `source`."""
        return self.source.compute_dtype

    @functools.cached_property
    def entries(self) -> _Entries:
        """How the entries stand in the file."""
        return _Entries.of(self.source)

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry in the file."""
        return int(self.entries.stored.itemsize)

    @property
    def in_place(self) -> bool:
        """Entries are read right into their place, with nothing to convert."""
        return self.entries.stored == self.compute_dtype

    @property
    def decoding_bytes(self) -> int:
        """As of `source`, and of the rows that stand in memory until they are written."""
        return self.source.decoding_bytes + band_bytes(self.source, 0)

    @property
    def read_in_part(self) -> bool:
        """A piece of a chunk is read without the rest of it."""
        return True

    @property
    def chunk_seconds(self) -> float:
        """Next to nothing: a file that is open."""
        return 2e-6

    @property
    def reader(self) -> str:
        """What decodes the chunks of `source`."""
        return self.source.reader

    @property
    def shards(self) -> tuple[int, ...] | None:
        """As of `source`."""
        return self.source.shards

    @property
    def made_of(self) -> tuple[int, ...] | None:
        """As of `source`."""
        return self.source.made_of

    @property
    def fill_is_finite(self) -> bool:
        """As of `source`."""
        return self.source.fill_is_finite

    def inventory(self, rows: int, *, sizes: bool = False) -> ChunkInventory:
        """As of `source`."""
        return self.source.inventory(rows, sizes=sizes)

    def read(self, rows: tuple[int, int], box: Box, out: NDArray[Any], room: int = 0) -> None:
        """Fill `out` with gradients, as of `Tensor.read`.

        What `room` says is taken while a cell is written, by one of its bands at least.

        Raises DataError as of `source`, and ScratchError.
        """
        if rows[0] < self.rows_held[0] or rows[1] > self.rows_held[1]:
            raise ValueError(f"rows {rows} are not among the rows {self.rows_held} that are held")
        for cell in itertools.product(*_cells(box, self.chunks[1:])):
            held = self.box_of(cell)
            both = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(held, box, strict=True)
            )
            with self.scratch._cell(self, cell, room) as descriptor:
                for first, last, inside, place in _panels(both, held, box, self._panel_width):
                    where = _Panel(first * self._count * self.entry_bytes, last - first, self.entries)
                    where.read(descriptor, rows[0] - self.rows_held[0], inside, out, place)

    def give_up(self) -> None:
        """As of `Tensor`: of a file that is being written."""
        self.scratch.give_up()

    def box_of(self, cell: Sequence[int]) -> Box:
        """Slices of the axes of `shape` that a cell, by its numbers in the grid, is made of."""
        return tuple(
            slice(at * size, min((at + 1) * size, extent))
            for at, size, extent in zip(cell, self.chunks[1:], self.shape, strict=True)
        )

    def cell_bytes(self, cell: Sequence[int]) -> int:
        """Bytes of a cell in the file."""
        return self._count * _width(self.box_of(cell)) * self.entry_bytes

    def decoded(self, cell: tuple[int, ...], room: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """What a cell's file is made of: arrays, and the bytes before each; its chunks are decoded once."""
        box, height, (first, last) = self.box_of(cell), self.chunks[0], self.rows_held
        width = _width(box)
        step = height * _chunks_at_once(height * width * self.compute_dtype.itemsize, room)
        borders = [first, *range((first // step + 1) * step, last, step), last]
        rows = max((b - a for a, b in itertools.pairwise(borders)), default=0)
        band = np.empty((rows, width), self.compute_dtype)
        for start, stop in itertools.pairwise(borders):
            values = band[: stop - start]
            self.source.read((start, stop), box, values, max(0, room - band.nbytes))
            for column in range(0, width, self._panel_width):
                panel = values[:, column : column + self._panel_width]
                entries = column * self._count + panel.shape[1] * (start - first)
                yield entries * self.entry_bytes, self.entries.pack(panel)

    @property
    def _count(self) -> int:
        return self.rows_held[1] - self.rows_held[0]

    @property
    def _panel_width(self) -> int:
        return PANEL_BYTES // self.entry_bytes


def bytes_needed(reads: Iterable[Iterable[tuple[Tensor, Box]]], rows: tuple[int, int]) -> int:
    """Bytes of scratch files, at most, so that every chunk is decoded once.

    reads : the boxes that are read together, a range's segments, set by set in the order of the pass: a cell
    gives way once a later set needs the room; rows : (first, last + 1) of the rows that will be read
    """
    most = 0
    for together in reads:
        size = 0
        for tensor, box in together:
            grid = _cells(box, tensor.chunks[1:])
            touched = (
                min(spans.stop * chunk, extent) - spans.start * chunk
                for spans, chunk, extent in zip(grid, tensor.chunks[1:], tensor.shape, strict=True)
            )
            size += math.prod(touched) * _Entries.of(tensor).stored.itemsize
        most = max(most, size)
    return (rows[1] - rows[0]) * most


def band_bytes(tensor: Tensor, room: int) -> int:
    """Bytes of decoded rows that stand in memory while a cell is written, beside what decoding takes itself.

    room : as of `Tensor.read`
    """
    columns = math.prod(min(c, e) for c, e in zip(tensor.chunks[1:], tensor.shape, strict=True))
    chunk = tensor.chunks[0] * columns * tensor.compute_dtype.itemsize
    return chunk * _chunks_at_once(chunk, room)


def _chunks_at_once(chunk: int, room: int) -> int:
    """Of so many bytes each, in a third of the room, one at least: the rest is for their decoding."""
    return max(1, min(room // 3, max(BAND_BYTES, CHUNKS_AT_ONCE * chunk)) // max(1, chunk))


@dataclass(frozen=True)
class _Panel:
    """Columns of a cell with all of their rows in one piece. start : bytes before it; width : its columns"""

    start: int
    width: int
    entries: _Entries

    def read(
        self,
        descriptor: int,
        first: int,
        inside: Columns,
        out: NDArray[Any],
        place: Columns,
    ) -> None:
        """Fill columns `place` of `out` with the columns `inside`, of rows from `first` on."""
        size = self.width * self.entries.stored.itemsize
        start = self.start + first * size
        if (
            isinstance(inside, slice)
            and inside == slice(0, self.width)
            and out.dtype == self.entries.stored
            and out.strides[1] == out.itemsize
        ):
            columns = out[:, place]
            if columns.flags.c_contiguous:
                _read_all(descriptor, columns, start)
                return
            for row in range(0, len(columns), ROWS_AT_ONCE):
                _read_rows(descriptor, columns[row : row + ROWS_AT_ONCE], start + row * size)
            return
        rows = max(1, READ_BYTES // size)
        stored = np.empty((min(rows, len(out)), self.width), self.entries.stored)
        for row in range(0, len(out), rows):
            target = out[row : row + rows]
            read = stored[: len(target)]
            _read_all(descriptor, read, start + row * size)
            if isinstance(place, slice):
                self.entries.unpack(read[:, inside], target[:, place])
            else:
                values = np.empty((len(target), len(place)), target.dtype)
                self.entries.unpack(read[:, inside], values)
                target[:, place] = values


def _extent(part: slice) -> int:
    return int(part.stop - part.start)


def _width(box: Box) -> int:
    return math.prod(map(_extent, box))


def _cells(box: Box, chunks: Sequence[int]) -> list[range]:
    """Along each axis, the numbers of the cells that a box lies in."""
    return [range(part.start // size, -(-part.stop // size)) for part, size in zip(box, chunks, strict=True)]


def _panels(both: Box, cell: Box, box: Box, width: int) -> Iterator[tuple[int, int, Columns, Columns]]:
    """Where the columns of `both`, which lies in a cell and in a box that is read, stand in either.

    For each panel, of so many columns, that holds some: its first column in the cell and last + 1, and the
    columns that are wanted, counted in the panel and in the box.
    """
    length, starts, places = _runs(both, cell, box)
    size = _width(cell)
    for first in range(int(starts[0]) // width * width, size, width):
        last = min(first + width, size)
        begin = int(np.searchsorted(starts, first - length, "right"))
        end = int(np.searchsorted(starts, last, "left"))
        if begin == end:
            if begin == len(starts):
                return
            continue
        if end - begin == 1:
            start, place = int(starts[begin]), int(places[begin])
            head, tail = max(first, start), min(last, start + length)
            moved = slice(place + head - start, place + tail - start)
            yield first, last, slice(head - first, tail - first), moved
            continue
        each = np.arange(length)
        inside = (starts[begin:end, None] + each).ravel()
        moved_to = (places[begin:end, None] + each).ravel()
        wanted = (inside >= first) & (inside < last)
        yield first, last, inside[wanted] - first, moved_to[wanted]


def _runs(both: Box, cell: Box, box: Box) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
    """Columns of `both` that follow each other in the C order of a cell and of a box alike.

    Returns how many do, and of each run the first one's place in the cell and in the box, ascending.
    """
    extents = list(map(_extent, both))
    axis, length = len(both), 1
    while axis > 0:
        axis -= 1
        length *= extents[axis]
        if not cell[axis] == box[axis] == both[axis]:
            break
    starts = np.zeros(1, np.intp)
    places = np.zeros(1, np.intp)
    for at, part in enumerate(both):
        steps = part.start + np.arange(extents[at] if at < axis else 1)
        starts = (starts[:, None] * _extent(cell[at]) + steps - cell[at].start).ravel()
        places = (places[:, None] * _extent(box[at]) + steps - box[at].start).ravel()
    return length, starts, places


def _write_all(descriptor: int, data: NDArray[Any], offset: int) -> None:
    """Write an array in C order; the system may take less of it at a time."""
    if not data.size:
        return
    view = data.data.cast("B")
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _read_all(descriptor: int, out: NDArray[Any], offset: int) -> None:
    """Fill an array in C order. Raises OSError where the file ends before."""
    if not out.size:
        return
    view = out.data.cast("B")
    while view:
        count = os.preadv(descriptor, [view], offset)
        if not count:
            raise OSError("the file ends too early")
        view, offset = view[count:], offset + count


def _read_rows(descriptor: int, out: NDArray[Any], offset: int) -> None:
    """Fill an array of at most ROWS_AT_ONCE rows, each in one piece, from what lies together in the file."""
    count = os.preadv(descriptor, list(out), offset)
    size = out.shape[1] * out.itemsize
    done = count // size
    for row in range(done, len(out)):  # the system gave less
        _read_all(descriptor, out[row], offset + row * size)
