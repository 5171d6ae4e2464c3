"""A tensor whose gradients are stored in boxes, each by another process of a distributed run."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..quick_dataclass import dataclass
from .inventory import ChunkInventory, grid_shape
from .log import Tensor
from .rank_grid import PlacedChunks, common_chunks
from .row_ranges import Ranges

Box = tuple[slice, ...]

BATCH_BYTES = 4 << 20
"""Of rows of a box that go through memory of their own, because their place is no single piece."""
MOST_BATCH_BYTES = 16 << 20
"""The same, where chunks hold so many rows, before plans have to count it."""


@dataclass(frozen=True)
class RankBox:
    """What one rank holds of a tensor. store : name of its folder; offset : of the box in the whole tensor"""

    store: str
    tensor: Tensor
    offset: tuple[int, ...]

    @property
    def box(self) -> Box:
        """Slices of the whole tensor's axes."""
        return tuple(slice(o, o + n) for o, n in zip(self.offset, self.tensor.shape, strict=True))


@dataclass(frozen=True)
class RankInventory(ChunkInventory):
    """Inventory of all boxes of a tensor.

    Coordinates of absent chunks are those in the grid of their box, behind the number of the box.
    parts : of the boxes; stores : their names
    """

    parts: tuple[ChunkInventory, ...] = ()
    stores: tuple[str, ...] = ()

    @classmethod
    def of(cls, stores: tuple[str, ...], parts: Sequence[ChunkInventory]) -> RankInventory:
        """The inventory of boxes from those of each."""
        sizes = [part.stored_bytes for part in parts]
        return cls(
            expected=sum(part.expected for part in parts),
            absent=tuple((number, *chunk) for number, part in enumerate(parts) for chunk in part.absent),
            stored_bytes=None if None in sizes else sum(size or 0 for size in sizes),
            parts=tuple(parts),
            stores=stores,
        )

    @property
    def absent_from(self) -> str:
        """The ranks whose chunks are absent, in words."""
        lacking = [name for name, part in zip(self.stores, self.parts, strict=True) if part.absent]
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        return f" of {', '.join(lacking[:3])}{more}" if lacking else ""

    def since(self, row: int) -> RankInventory:
        """As of `ChunkInventory`."""
        return self.of(self.stores, [part.since(row) for part in self.parts])

    def absent_rows(self, rows: int) -> tuple[int, int]:
        """As of `ChunkInventory`."""
        found = [part.absent_rows(rows) for part in self.parts if part.absent]
        return min(first for first, _ in found), max(last for _, last in found)

    def unwritten_from(self, rows: tuple[int, int]) -> int:
        """As of `ChunkInventory`."""
        return max(part.unwritten_from(rows) for part in self.parts)


@dataclass(frozen=True, eq=False)
class RankTensor(Tensor):
    """Boxes that are disjoint and cover the tensor, of one dtype; at least one."""

    global_shape: tuple[int, ...]
    boxes: tuple[RankBox, ...] = field(repr=False)

    @property
    def rows(self) -> int:
        """Rows that all boxes store, committed or not."""
        return min(each.tensor.rows for each in self.boxes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole parameter."""
        return self.global_shape

    @property
    def dtype(self) -> str:
        """Name of the type of the entries, of all boxes."""
        return self.boxes[0].tensor.dtype

    @functools.cached_property
    def chunks(self) -> tuple[int, ...]:
        """A regular grid that follows the borders and the chunks of the boxes, as of `common_chunks`."""
        return common_chunks(
            self.global_shape,
            [PlacedChunks(each.offset, each.tensor.shape, each.tensor.chunks) for each in self.boxes],
        )

    @functools.cached_property
    def compute_dtype(self) -> np.dtype[np.floating[Any]]:
        """float64 where entries need it, else float32, which holds the narrower types exactly."""
        return max((each.tensor.compute_dtype for each in self.boxes), key=lambda dtype: dtype.itemsize)

    @functools.cached_property
    def entry_bytes(self) -> int:
        """Bytes of one entry as stored and not encoded."""
        return max(each.tensor.entry_bytes for each in self.boxes)

    @functools.cached_property
    def in_place(self) -> bool:
        """Entries are read right into their place, but for batches of a few rows."""
        return all(
            each.tensor.in_place
            and each.tensor.compute_dtype == self.compute_dtype
            and each.tensor.parameters * each.tensor.entry_bytes * _least_rows(each.tensor)
            <= MOST_BATCH_BYTES
            for each in self.boxes
        )

    @functools.cached_property
    def compressed(self) -> bool:
        """A part of a chunk cannot be read without decoding all of it."""
        return any(each.tensor.compressed for each in self.boxes)

    @functools.cached_property
    def decoding_bytes(self) -> int:
        """Bytes of one chunk of a box while it is decoded."""
        return max(each.tensor.decoding_bytes for each in self.boxes)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are to be under way at once."""
        return max(each.tensor.waiting_bytes for each in self.boxes)

    @property
    def read_in_part(self) -> bool:
        """A piece of a chunk is read without the rest of it."""
        return all(each.tensor.read_in_part for each in self.boxes)

    @functools.cached_property
    def chunk_seconds(self) -> float:
        """What reading the chunks that one of the grid is made of takes, beside what their bytes take."""
        seconds = sum(
            math.prod(grid_shape(each.tensor.shape, each.tensor.chunks[1:]))
            * (each.tensor.chunk_seconds / each.tensor.chunks[0])
            for each in self.boxes
        )
        return seconds * self.chunks[0] / math.prod(grid_shape(self.global_shape, self.chunks[1:]) or (1,))

    @property
    def reader(self) -> str:
        """What reads the chunks, as reports name it."""
        return "+".join(sorted({each.tensor.reader for each in self.boxes}))

    @functools.cached_property
    def codecs(self) -> tuple[str, ...]:
        """Names of what encodes the entries of the boxes."""
        return tuple(dict.fromkeys(name for each in self.boxes for name in each.tensor.codecs))

    @functools.cached_property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard, None without sharding, or where boxes differ."""
        found = {each.tensor.shards for each in self.boxes}
        return found.pop() if len(found) == 1 else None

    @property
    def fill_is_finite(self) -> bool:
        """Whether chunks that are absent read as finite gradients."""
        return all(each.tensor.fill_is_finite for each in self.boxes)

    @property
    def absent_rows(self) -> tuple[Ranges, bool]:
        """Those of the first box: a parameter gets a gradient in all of its boxes, or in none."""
        return self.boxes[0].tensor.absent_rows

    def give_up(self) -> None:
        """As of `Tensor`, of all boxes."""
        for each in self.boxes:
            each.tensor.give_up()

    def inventory(self, rows: int, *, sizes: bool = False) -> ChunkInventory:
        """As of `Tensor`, of the chunks of all boxes. Raises DataError that names the rank."""
        parts = []
        for each in self.boxes:
            try:
                parts.append(each.tensor.inventory(rows, sizes=sizes))
            except DataError as error:
                raise DataError(f"{each.store}: {error}") from error
        return RankInventory.of(tuple(each.store for each in self.boxes), parts)

    def read(self, rows: tuple[int, int], box: Box, out: NDArray[Any], room: int = 0) -> None:
        """Fill `out` with gradients, as of `Tensor.read`. Raises DataError that names the rank."""
        target = out.reshape(out.shape[0], *(part.stop - part.start for part in box))
        scratch = _Scratch(out.dtype)
        for each in self._meeting(box):
            both = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, each.box, strict=True)
            )
            place = target[:, *_counted_from([part.start for part in box], both)]
            try:
                _read(each.tensor, rows, _counted_from(each.offset, both), place, scratch, room)
            except DataError as error:
                raise DataError(f"{each.store}: {error}") from error

    def _meeting(self, box: Box) -> Iterator[RankBox]:
        """The boxes that share entries with `box`."""
        starts, stops = self._corners
        first = np.array([part.start for part in box], np.int64)
        last = np.array([part.stop for part in box], np.int64)
        meet = np.all((starts < last) & (stops > first), axis=1)
        return (self.boxes[number] for number in np.flatnonzero(meet).tolist())

    @functools.cached_property
    def _corners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(boxes, axes) each: where boxes start and stop."""
        shape = (len(self.boxes), len(self.global_shape))
        starts = np.array([each.offset for each in self.boxes], np.int64).reshape(shape)
        extents = np.array([each.tensor.shape for each in self.boxes], np.int64).reshape(shape)
        return starts, starts + extents


class _Scratch:
    """Memory for batches of rows, made when it is first needed."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._held = np.empty(0, dtype)

    def rows(self, count: int, width: int) -> NDArray[Any]:
        if self._held.size < count * width:
            self._held = np.empty(count * width, self._dtype)
        return self._held[: count * width].reshape(count, width)


def _read(
    tensor: Tensor, rows: tuple[int, int], box: Box, place: NDArray[Any], scratch: _Scratch, room: int
) -> None:
    """Read a box of one rank's tensor into its place, (rows, *extents), a view of any strides."""
    count = rows[1] - rows[0]
    if not place.size:
        return
    width = place.size // count
    in_rows = place[:1].flags.c_contiguous
    if in_rows and (not tensor.in_place or place.flags.c_contiguous):
        tensor.read(rows, box, place.reshape(count, width), room)
        return
    # Few rows, but of whole chunks: they stay in a cache until they are copied.
    height = _least_rows(tensor)
    step = height * max(1, BATCH_BYTES // (height * width * place.itemsize))
    for first in range(rows[0] // height * height, rows[1], step):
        start, stop = max(first, rows[0]), min(first + step, rows[1])
        batch = scratch.rows(stop - start, width)
        tensor.read((start, stop), box, batch, room)
        target = place[start - rows[0] : stop - rows[0]]
        target[...] = batch.reshape(target.shape)


def _counted_from(origin: Sequence[int], box: Box) -> Box:
    return tuple(slice(b.start - o, b.stop - o) for o, b in zip(origin, box, strict=True))


def _least_rows(tensor: Tensor) -> int:
    """Rows that are read at once, so that no chunk is decoded for each of them."""
    return 1 if tensor.read_in_part else tensor.chunks[0]
