"""How a log is laid out to be analyzed fast, and in which order a tensor is copied into that layout.

An exact spectrum takes all rows of a range of columns at once, path lengths blocks of rows, incremental
spectra blocks of rows of all columns. Chunks of a few MB that are tall serve all of these, and one height for
all tensors, so that blocks of rows end where chunks of every tensor do.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..engine.costs import reading_rate
from ..engine.ranges import BLOCK_BYTES
from ..errors import MemoryLimitError
from ..logs.inventory import grid_shape
from ..logs.log import Tensor
from ..logs.stored_array import even_chunks
from ..logs.stored_entries import StoredEntries
from ..quick_dataclass import dataclass
from ..sizes import format_size

Box = tuple[slice, ...]

MOST_HEIGHT = 1024
"""Rows of a chunk at most: of 4 MB, each row is then 4 KiB, as little as is worth a read."""
FEW_ROWS = 2048
"""Up to here the matrix of products of all rows is small, and ranks come from whole columns."""
LEAST_HEIGHT = 128
"""Rows of a chunk of a long log, whose blocks of rows of all parameters should fit into BLOCK_BYTES."""
LEAST_PIECE = 64 << 10
"""Bytes that are worth a call: where a file grows by smaller pieces, chunks may be wider and shorter."""
LOW_HEIGHT = 64
SLABS = (BLOCK_BYTES, 4 * BLOCK_BYTES)
"""Bytes of a slab at most: of a small one, unless rows are so wide that files would grow by little then."""
DECODING_BYTES = 16 << 20
"""Kept for chunks in decoding, whatever memory there is."""

PIECE_SECONDS = 5e-5
CALL_SECONDS = 4e-4
"""For each piece that is written, and for each slab that is read."""
WRITE_RATE = 1.2e9
"""Bytes a second."""
AGAIN = 3.0
"""Price of decoding a chunk again, where orders are weighed: estimates of codecs are rough."""
CLEARLY = 0.8
"""Another layout is taken where copying into it takes at most this part of the time."""


@dataclass(frozen=True)
class Slab:
    """Rows first .. last - 1, as stored, of a box of parameters: what is in memory at once."""

    rows: tuple[int, int]
    box: Box


@dataclass(frozen=True)
class TensorCopy:
    """How one tensor is copied.

    rows : (first, last + 1) stored rows; chunks : of the copy, (rows, *shape)
    sizes : extents of a slab's box; height : rows of a slab, in a grid from row `anchor` on
    decodes : how often a chunk of the tensor is decoded, on average
    overlapped : whether a slab is read while the one before is written
    seconds : a rough estimate; weight : what orders are chosen by
    """

    entries: StoredEntries
    rows: tuple[int, int]
    chunks: tuple[int, ...]
    sizes: tuple[int, ...]
    height: int
    anchor: int
    decodes: float = 1.0
    overlapped: bool = True
    seconds: float = 0.0
    weight: float = 0.0

    @property
    def tensor(self) -> Tensor:
        """The tensor that is copied."""
        return self.entries.tensor

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.rows[1] - self.rows[0]

    @property
    def slab_bytes(self) -> int:
        """Of the largest slab."""
        return self.entries.nbytes(min(self.height, self.count), math.prod(self.sizes))

    @property
    def bytes_read(self) -> int:
        """Of gradients, as they are read, each chunk once."""
        return self.entries.nbytes(self.count, self.tensor.parameters)

    @property
    def bytes_written(self) -> int:
        """Of files of chunks that are not compressed."""
        return self.chunks_after * (math.prod(self.chunks) * self.entries.dtype.itemsize + 4)

    @property
    def chunks_before(self) -> int:
        """Chunks that hold the rows."""
        height = self.tensor.chunks[0]
        bands = -(-self.rows[1] // height) - self.rows[0] // height
        return bands * math.prod(grid_shape(self.tensor.shape, self.tensor.chunks[1:]))

    @property
    def chunks_after(self) -> int:
        """Chunks of the copy."""
        return math.prod(grid_shape((self.count, *self.tensor.shape), self.chunks))

    def slabs(self) -> Iterator[Slab]:
        """In order: of each box all rows, from the first on."""
        axes = [
            [slice(at, min(at + size, extent)) for at in range(0, extent, size)]
            for extent, size in zip(self.tensor.shape, self.sizes, strict=True)
        ]
        borders = _borders(self.rows, self.height, self.anchor)
        for box in itertools.product(*axes):
            for rows in itertools.pairwise(borders):
                yield Slab(rows, box)


def common_height(rows: int, parameters: int) -> int:
    """Rows of a chunk, for all tensors of a log. parameters : of all tensors"""
    most = MOST_HEIGHT
    if rows > FEW_ROWS:
        most = max(LEAST_HEIGHT, min(MOST_HEIGHT, BLOCK_BYTES // max(1, 4 * parameters)))
    return even_chunks((rows,), most)[0]


def plan_copy(
    tensor: Tensor,
    rows: tuple[int, int],
    height: int,
    chunk_bytes: int,
    room: int,
    *,
    fixed: bool,
    whole: bool,
) -> TensorCopy:
    """The cheapest order to copy a tensor in.

    Parameters
    ----------
    rows : (first, last + 1) stored rows
    height : rows of the copy's chunks; fixed : whether others may not be taken where that is cheaper
    chunk_bytes : size of a chunk aimed at
    room : bytes for slabs
    whole : chunks are written whole, not row after row

    Raises MemoryLimitError, without the log's name, where a chunk of the copy has no room.
    """
    search = _Search(StoredEntries.of(tensor), rows, chunk_bytes, room, whole)
    heights = [height]
    while not fixed and heights[-1] >= 2 * LOW_HEIGHT:
        heights.append(even_chunks((height,), heights[-1] // 2)[0])
    best: TensorCopy | None = None
    for tall, most in itertools.product(heights, SLABS):
        found = search.best(tall, most)
        if best is None or (found is not None and found.weight < CLEARLY * best.weight):
            best = found or best
        if best is not None and search.is_good(best):
            break
    if best is None:
        size = search.entries.nbytes(1 if not whole else height, chunk_bytes // search.entries.dtype.itemsize)
        raise MemoryLimitError(
            f"tensor '{tensor.name}': beside chunks in decoding there is no room for one of the copy, "
            f"{format_size(size)}: give more memory, or ask for smaller chunks"
        )
    return best


@dataclass(frozen=True)
class _Search:
    """What is weighed: heights of slabs, and the grid that their boxes follow."""

    entries: StoredEntries
    rows: tuple[int, int]
    chunk_bytes: int
    room: int
    whole: bool

    @property
    def tensor(self) -> Tensor:
        return self.entries.tensor

    @property
    def count(self) -> int:
        return self.rows[1] - self.rows[0]

    @functools.cached_property
    def stored(self) -> tuple[int, ...]:
        """What is decoded at once; of chunks that are read in part, an entry."""
        chunks = self.tensor.chunks
        if self.tensor.read_in_part:
            return (1,) * len(chunks)
        return tuple(max(1, min(size, end)) for size, end in zip(chunks, self._ends, strict=True))

    @property
    def _ends(self) -> tuple[int, ...]:
        return (self.rows[1], *self.tensor.shape)

    def is_good(self, copy: TensorCopy) -> bool:
        """Whether no other height can be much better."""
        width = math.prod(copy.chunks[1:])
        piece = min(copy.height, copy.chunks[0]) * width * self.entries.dtype.itemsize
        return copy.decodes <= 1.05 and (copy.height >= copy.chunks[0] or piece >= LEAST_PIECE)

    def best(self, height: int, most: int) -> TensorCopy | None:
        """The cheapest copy into chunks of that height by slabs of `most` bytes, None where nothing fits."""
        found: list[TensorCopy] = []
        for chunk in self._chunks(height):
            for overlapped in (True, False):
                room = min(most, self.room // (1 + overlapped))
                if self.entries.nbytes(self.count, self.tensor.parameters) <= room:
                    return self._copy(chunk, self.tensor.shape, self.count, overlapped)
                found += self._fitting(chunk, room, overlapped)
                if found and min(copy.decodes for copy in found) <= 1.05:
                    break
        return min(found, key=lambda copy: copy.weight, default=None)

    def _chunks(self, height: int) -> Iterator[tuple[int, ...]]:
        """Shapes of the copy's chunks: even ones, and such whose borders are also those of stored ones."""
        parts = self.tensor.shape[-1:] if self.entries.parts > 1 else ()
        shape = self.tensor.shape[: len(self.tensor.shape) - len(parts)]
        entry = self.entries.dtype.itemsize * self.entries.parts
        even = even_chunks(shape, self.chunk_bytes // (height * entry))
        yield (height, *even, *parts)
        aligned = tuple(
            _aligned(size, stored, extent)
            for size, stored, extent in zip(even, self.stored[1:], shape, strict=False)
        )
        if aligned != even:
            yield (height, *aligned, *parts)

    def _fitting(self, chunk: tuple[int, ...], room: int, overlapped: bool) -> Iterator[TensorCopy]:
        shape = self.tensor.shape
        along = tuple(
            min(max(1, extent), math.lcm(size, stored))
            for extent, size, stored in zip(shape, chunk[1:], self.stored[1:], strict=True)
        )
        for grid in {along, chunk[1:]}:
            for height in self._heights(chunk[0]):
                wanted = room // max(1, self.entries.nbytes(height, self.entries.parts)) * self.entries.parts
                sizes = _box_sizes(shape, grid, wanted)
                if math.prod(sizes) <= wanted:
                    yield self._copy(chunk, sizes, height, overlapped)

    def _heights(self, height: int) -> set[int]:
        """Rows of slabs to weigh, whole chunks of either log among them."""
        units = (height,) if self.whole else (1, self.stored[0], math.lcm(height, self.stored[0]))
        found = set()
        pieces = 1
        while pieces < 2 * self.count:
            rows = -(-self.count // pieces)
            found |= {-(-rows // unit) * unit for unit in units} | {max(1, rows // units[-1]) * units[-1]}
            pieces *= 2
        return {min(rows, self.count) if rows < 2 * self.count else self.count for rows in found}

    def _copy(
        self, chunk: tuple[int, ...], sizes: tuple[int, ...], height: int, overlapped: bool
    ) -> TensorCopy:
        anchor = self.rows[0] if self.whole or height >= self.count else 0
        borders = _borders(self.rows, height, anchor)
        bands = _overlaps(borders, self.stored[0], 0)
        columns = math.prod(map(_crossings, self.tensor.shape, sizes, self.stored[1:]))
        # A chunk that is read in part is opened anew for each slab, and no byte of it is read again.
        least = _overlaps([*self.rows], self.stored[0], 0) * math.prod(
            grid_shape(self.tensor.shape, self.stored[1:])
        )
        decodes = bands * columns / max(1, least)
        opened = _overlaps(borders, self.tensor.chunks[0], 0) * math.prod(
            map(_crossings, self.tensor.shape, sizes, self.tensor.chunks[1:])
        )
        boxes = math.prod(grid_shape(self.tensor.shape, sizes))
        slabs = boxes * (len(borders) - 1)
        pieces = _overlaps(borders, chunk[0], self.rows[0]) * math.prod(
            grid_shape(self.tensor.shape, chunk[1:])
        )
        size = float(self.entries.nbytes(self.count, self.tensor.parameters))
        once = size / reading_rate(self.tensor)
        reading = decodes * once + opened * self.tensor.chunk_seconds + slabs * CALL_SECONDS
        writing = pieces * PIECE_SECONDS + size / WRITE_RATE
        seconds = max(reading, writing) if overlapped else reading + writing
        again = (decodes - 1) * (once + least * self.tensor.chunk_seconds)
        return TensorCopy(
            self.entries, self.rows, chunk, tuple(map(max, sizes, (1,) * len(sizes))), height, anchor,
            decodes, overlapped, seconds, seconds + 0.1 * min(reading, writing) + AGAIN * again,
        )  # fmt: skip


def _aligned(size: int, stored: int, extent: int) -> int:
    """The multiple or the divisor of `stored` next to `size`, where one is within a factor of two."""
    if size >= extent or stored >= extent or size % stored == 0 or stored % size == 0:
        return size
    near = [stored * max(1, round(size / stored))] if stored < size else []
    near += [
        stored // k for k in range(max(1, stored // (2 * size)), 2 * stored // size + 2) if stored % k == 0
    ]
    near = [other for other in near if size / 2 <= other <= 2 * size]
    return min(near, key=lambda other: abs(math.log(other / size)), default=size)


def _box_sizes(shape: Sequence[int], grid: Sequence[int], wanted: int) -> tuple[int, ...]:
    """Extents of boxes along a grid of at most `wanted` parameters, or of one of its cells."""
    sizes, width = list(shape), math.prod(shape)
    for axis, (extent, size) in enumerate(zip(shape, grid, strict=True)):
        if width > wanted and extent > size:
            rest = width // extent
            sizes[axis] = min(extent, size * max(1, wanted // (size * rest)))
            width = rest * sizes[axis]
    return tuple(sizes)


def _crossings(extent: int, size: int, other: int) -> int:
    """Pairs of pieces of two grids along an axis that overlap."""
    if extent == 0:
        return 0
    both = (extent - 1) // math.lcm(max(1, size), other)
    return -(-extent // max(1, size)) + -(-extent // other) - 1 - both


def _borders(rows: tuple[int, int], height: int, anchor: int) -> list[int]:
    first = anchor + ((rows[0] - anchor) // height + 1) * height
    return [rows[0], *range(first, rows[1], height), rows[1]]


def _overlaps(borders: Sequence[int], height: int, anchor: int) -> int:
    """Pairs of blocks of rows and bands of chunks that overlap. anchor : where a band begins"""
    at = np.asarray(borders) - anchor
    return int(np.sum(-(-at[1:] // height) - at[:-1] // height))
