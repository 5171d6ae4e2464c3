"""Cut a log's parameters into ranges along the chunk grid, and its rows into blocks."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..sizes import format_size

TILE_WIDTH = 4096
"""Columns of one unit of work, where rows are many. It follows from the number of rows alone, so that sums
are formed alike whatever the memory and the threads."""
TILE_ROWS = 256
"""Rows from which on a tile is no wider: of fewer it takes more columns, for a task has its own price."""
WIDEST_TILE = 16
"""Times TILE_WIDTH, the widest tile."""
BLOCK_BYTES = 64 << 20
"""Size of a block aimed at, where the chunk grid leaves the choice."""
TALL_WIDTH = 8 * TILE_WIDTH
"""Columns of a block that leave enough tiles to share, where it could be wider and less tall."""
BLOCK_ROWS = 1 << 13
"""Rows of a block at most, where the chunk grid leaves the choice."""

WEIGHT_BYTES = 32 << 20
"""Size of a table of predictor weights to stay below, where a block may have fewer rows."""

Box = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A box of one tensor's parameters: the tensor's number in the plan, and slices of its axes."""

    tensor: int
    box: Box

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the box along each axis."""
        return tuple(part.stop - part.start for part in self.box)

    @property
    def width(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Strip:
    """Columns first .. last - 1 of a range, all of one tensor. group : of a stored sketch, where it is one"""

    tensor: int
    first: int
    last: int
    group: int | None = None


Strips = tuple[Strip, ...]
"""Neighbouring columns of a range that are one unit of work."""


@dataclass(frozen=True, slots=True)
class ParameterRange:
    """Parameters read together, side by side as the columns of a block.

    row_blocks : (first, last + 1) stored rows of each block, in order; tile : columns of a tile, None where
    all are one; decodes : how often each of its chunks is decoded in the whole pass, 1 unless memory forces a
    chunk to be taken in pieces; cut : the tiles, where they don't follow from `tile`
    """

    segments: tuple[Segment, ...]
    row_blocks: tuple[tuple[int, int], ...]
    tile: int | None = None
    decodes: int = 1
    cut: tuple[Strips, ...] | None = None

    def of(self, numbers: Sequence[int]) -> ParameterRange:
        """The same range where tensor i has the number numbers[i]."""
        segments = tuple(replace(s, tensor=numbers[s.tensor]) for s in self.segments)
        if self.cut is None:
            return replace(self, segments=segments)
        cut = tuple(tuple(replace(s, tensor=numbers[s.tensor]) for s in tile) for tile in self.cut)
        return replace(self, segments=segments, cut=cut)

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(segment.width for segment in self.segments)

    @property
    def tiles(self) -> tuple[Strips, ...]:
        """Units of work, each of neighbouring columns. Made when asked for: a large model has millions."""
        if self.cut is not None:
            return self.cut
        return one_tile(self.segments) if self.tile is None else even_tiles(self.segments, self.tile)

    @property
    def tile_count(self) -> int:
        """Number of tiles."""
        if self.cut is not None:
            return len(self.cut)
        if self.tile is None:
            return 1
        if len(self.segments) == 1:
            return strips_of_width(self.segments[0].width, self.tile)
        return len(self.tiles)

    def strips(self) -> Iterator[tuple[int, int]]:
        """(tensor, number of its strips) of each stretch of columns, in order."""
        if self.cut is not None:
            yield from ((strip.tensor, 1) for tile in self.cut for strip in tile)
            return
        for segment in self.segments:
            yield segment.tensor, 1 if self.tile is None else strips_of_width(segment.width, self.tile)

    def columns(self) -> Iterator[tuple[Segment, int, int]]:
        """Each segment with its first column and last + 1."""
        last = 0
        for segment in self.segments:
            first, last = last, last + segment.width
            yield segment, first, last

    def segment_of(self, strip: Strip) -> tuple[Segment, int]:
        """The segment that a strip lies in, and its first column."""
        return next((item, first) for item, first, last in self.columns() if first <= strip.first < last)

    @property
    def block_rows(self) -> int:
        """Rows of the largest block."""
        return max(last - first for first, last in self.row_blocks)


@dataclass(frozen=True)
class Limits:
    """What bounds a block: `room` bytes for blocks and states, `state` bytes of state per column.

    whole_columns : a block holds all rows of its columns, as the Gram matrix over rows needs them
    block_rows : rows of a block at most, where the chunk grid leaves the choice
    group : tensors of a range at most, None for as many as are small
    tile : columns of a tile, None for TILE_WIDTH
    widest : columns of a range at most, where the chunk grid leaves the choice, None for as many as fit
    """

    rows: tuple[int, int]
    room: int
    state: int
    whole_columns: bool
    block_rows: int
    group: int | None = None
    tile: int | None = None
    widest: int | None = None

    @property
    def tile_width(self) -> int:
        """Columns of a tile."""
        return self.tile or TILE_WIDTH

    @property
    def block_bytes(self) -> int:
        """Size of a block to aim at: two of them and their states fit."""
        return max(1, min(BLOCK_BYTES, self.room // 3))

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.rows[1] - self.rows[0]


def decoded_row_bytes(tensors: Sequence[Tensor], ranges: Sequence[ParameterRange]) -> int:
    """Bytes that one row takes in the store, each chunk as often as it is decoded."""
    return sum(
        item.decodes * segment.width * tensors[segment.tensor].entry_bytes
        for item in ranges
        for segment in item.segments
    )


def alike(ranges: Sequence[ParameterRange]) -> list[tuple[ParameterRange, int]]:
    """One range of each extent, and how many there are: a large model has hundreds of thousands of a few."""
    found: dict[tuple[object, ...], list[Any]] = {}
    for item in ranges:
        shapes = tuple((segment.tensor, segment.shape) for segment in item.segments)
        held = found.setdefault((shapes, item.row_blocks, item.decodes, item.tile, item.cut), [item, 0])
        held[1] += 1
    return [(item, count) for item, count in found.values()]


def strips_of_tensors(ranges: Sequence[ParameterRange]) -> Counter[int]:
    """How many strips each tensor is cut into: it is complete when all of them are in."""
    found: Counter[int] = Counter()
    for item in ranges:
        for tensor, count in item.strips():
            found[tensor] += count
    return found


def most_block_rows(weight_columns: int) -> int:
    """Rows of a block at most, given the float64 weights of predictors for each row."""
    return min(BLOCK_ROWS, max(16, WEIGHT_BYTES // (8 * max(1, weight_columns))))


def one_tile(segments: Sequence[Segment]) -> tuple[Strips, ...]:
    """All columns as a single tile."""
    stops = itertools.accumulate(segment.width for segment in segments)
    strips = (Strip(s.tensor, stop - s.width, stop) for s, stop in zip(segments, stops, strict=True))
    return (tuple(strips),)


def tile_width(rows: int) -> int:
    """Columns of a tile of so many rows."""
    return TILE_WIDTH * max(1, min(WIDEST_TILE, TILE_ROWS // max(1, rows)))


def strips_of_width(width: int, tile: int) -> int:
    """How many strips `even_tiles` cuts a segment of `width` columns into."""
    return -(-width // tile) if width > tile // 2 else 1


def even_tiles(segments: Sequence[Segment], tile: int) -> tuple[Strips, ...]:
    """Tiles of `tile` columns of one tensor; neighbouring segments up to that width together."""
    tiles: list[Strips] = []
    group: list[Strip] = []
    (strips,) = one_tile(segments)
    for strip in strips:
        if strip.last - strip.first > tile // 2:
            tiles += [tuple(group)] * bool(group)
            group = []
            for first in range(strip.first, strip.last, tile):
                tiles.append((Strip(strip.tensor, first, min(first + tile, strip.last)),))
        else:
            if group and strip.last - group[0].first > tile:
                tiles.append(tuple(group))
                group = []
            group.append(strip)
    tiles += [tuple(group)] * bool(group)
    return tuple(tiles)


def entry_bytes(tensor: Tensor) -> int:
    """Bytes that one gradient entry takes while its block is read: converted types stand there twice."""
    compute = tensor.compute_dtype.itemsize
    return compute if tensor.in_place else compute + tensor.entry_bytes


def block_bytes(tensors: Sequence[Tensor], item: ParameterRange) -> int:
    """Bytes of a block as it is computed with: one dtype for all of its columns."""
    entry = max(tensors[segment.tensor].compute_dtype.itemsize for segment in item.segments)
    return item.block_rows * item.width * entry


def reading_bytes(tensors: Sequence[Tensor], item: ParameterRange) -> int:
    """Bytes beside the block while its segments are read one by one and converted or put in place."""
    computed = {tensors[segment.tensor].compute_dtype for segment in item.segments}
    if len(item.segments) == 1 and len(computed) == 1 and tensors[item.segments[0].tensor].in_place:
        return 0
    return item.block_rows * max(
        s.width * tensors[s.tensor].entry_bytes * (1 if tensors[s.tensor].in_place else 2)
        for s in item.segments
    )


def chunk_spans(box: Box, chunks: Sequence[int]) -> list[range]:
    """Along each axis, the numbers of the chunks that a box lies in. chunks : extents of a chunk"""
    return [range(part.start // size, -(-part.stop // size)) for part, size in zip(box, chunks, strict=True)]


def column_ranges(
    tensors: Sequence[Tensor], limits: Limits, apart: Callable[[Tensor], bool] | None = None
) -> Iterator[ParameterRange]:
    """Ranges in the order of the tensors, neighbouring small tensors grouped.

    apart : of tensors that share no range with others
    """
    group: list[int] = []

    def grouped() -> Iterator[ParameterRange]:
        if group:
            segments = tuple(Segment(index, whole_box(tensors[index])) for index in group)
            height = tensors[group[0]].chunks[0]
            width = sum(segment.width for segment in segments)
            entry = max(entry_bytes(tensors[index]) for index in group)
            yield ParameterRange(segments, _row_blocks(height, width, width * entry, limits))
            group.clear()

    for index, tensor in enumerate(tensors):
        if tensor.parameters == 0:
            continue
        if not _is_small(tensor, limits) or (apart is not None and apart(tensor)):
            yield from grouped()
            yield from _tensor_ranges(index, tensor, limits)
            continue
        if group:
            first = tensors[group[0]]
            width = sum(tensors[other].parameters for other in group)
            full = not limits.whole_columns and first.chunks[0] != tensor.chunks[0]
            full = full or len(group) == limits.group
            if full or first.compute_dtype != tensor.compute_dtype or width >= TILE_WIDTH:
                yield from grouped()
        group.append(index)
    yield from grouped()


def _is_small(tensor: Tensor, limits: Limits) -> bool:
    """Fit to be grouped: narrow, and its spectrum is taken from the column side."""
    if tensor.parameters > TILE_WIDTH // 2:
        return False
    return not limits.whole_columns or tensor.parameters < limits.count - 1


def _tensor_ranges(index: int, tensor: Tensor, limits: Limits) -> Iterator[ParameterRange]:
    """Ranges of one tensor, along its chunk grid where memory allows."""
    entry = entry_bytes(tensor)
    height = min(tensor.chunks[0], limits.count)
    if limits.whole_columns:
        per_column = entry * limits.count
        wanted = limits.block_bytes // per_column
    else:
        per_column = entry * height + limits.state
        wanted = min(limits.block_bytes // (entry * height), limits.room // 4 // max(1, limits.state))
        # Tall blocks: whole chunks land in one piece, and fewer columns carry their state along.
        tall = limits.block_bytes // (entry * min(limits.count, max(height, limits.block_rows)))
        wanted = min(wanted, max(tall, TALL_WIDTH))
    wanted = min(wanted, limits.widest or wanted)
    most = limits.room // per_column
    if most < 1:
        raise MemoryLimitError(
            f"tensor '{tensor.name}': one parameter over {limits.count} rows takes "
            f"{format_size(per_column)}: give --memory {format_size(per_column * 2)}"
        )
    for box in _grid_boxes(whole_box(tensor), tensor.chunks[1:], max(1, wanted)):
        # A chunk that is stored as it is can be read a piece at a time, at no cost beyond its bytes.
        free = tensor.read_in_part
        pieces = list(_pieces(box, max(1, min(most, wanted)) if free else most, limits.tile_width))
        for piece in pieces:
            segment = Segment(index, piece)
            blocks = _row_blocks(tensor.chunks[0], segment.width, segment.width * entry, limits)
            yield ParameterRange((segment,), blocks, limits.tile_width, 1 if free else len(pieces))


def model_range(tensors: Sequence[Tensor], limits: Limits, divided: bool) -> ParameterRange | None:
    """One range of all tensors, read row block after row block; None where there is no parameter.

    divided : into tiles of even width, else all columns are one tile
    """
    used = [index for index, tensor in enumerate(tensors) if tensor.parameters]
    if not used:
        return None
    heights = {tensors[index].chunks[0] for index in used}
    segments = tuple(Segment(index, whole_box(tensors[index])) for index in used)
    row_bytes = sum(s.width * entry_bytes(tensors[s.tensor]) for s in segments)
    height, decodes = math.lcm(*heights), 1
    if height * row_bytes > limits.room // 2 and len(heights) > 1 and height < limits.count:
        height, decodes = max(heights), 2
    blocks = _row_blocks(height, sum(s.width for s in segments), row_bytes, limits)
    return ParameterRange(segments, blocks, limits.tile_width if divided else None, decodes)


def whole_box(tensor: Tensor) -> Box:
    """All of a tensor's parameters."""
    return tuple(slice(0, extent) for extent in tensor.shape)


def _grid_boxes(box: Box, chunks: Sequence[int], wanted: int) -> Iterator[Box]:
    """Cut a box along chunk borders into boxes of at most `wanted` parameters, or of one chunk."""
    width = math.prod(part.stop - part.start for part in box)
    if width > wanted:
        for axis, (part, size) in enumerate(zip(box, chunks, strict=True)):
            extent = part.stop - part.start
            if extent > size:
                step = size * max(1, wanted // (size * (width // extent)))
                for start in range(part.start, part.stop, step):
                    cut = slice(start, min(start + step, part.stop))
                    yield from _grid_boxes((*box[:axis], cut, *box[axis + 1 :]), chunks, wanted)
                return
    yield box


def _pieces(box: Box, most: int, width_of_tile: int) -> Iterator[Box]:
    """Cut a box into boxes of at most `most` parameters, across chunks if need be."""
    width = math.prod(part.stop - part.start for part in box)
    if width > most:
        for axis, part in enumerate(box):
            extent = part.stop - part.start
            if extent > 1:
                rest = width // extent
                parts = -(-extent // max(1, most // rest))
                step = -(-extent // parts)
                # Whole tiles, where that costs no further piece, keep the sums the same for any memory.
                tile = max(1, width_of_tile // rest)
                if step % tile and (rounded := -(-step // tile) * tile) * rest <= most:
                    step = rounded
                for start in range(part.start, part.stop, step):
                    cut = slice(start, min(start + step, part.stop))
                    yield from _pieces((*box[:axis], cut, *box[axis + 1 :]), most, width_of_tile)
                return
    yield box


@functools.lru_cache(maxsize=64)
def _row_blocks(height: int, width: int, row_bytes: int, limits: Limits) -> tuple[tuple[int, int], ...]:
    """Blocks of rows along the chunk grid of about the size aimed at; a single one for whole columns.

    width : columns, beside which their state stands
    """
    first, last = limits.rows
    if limits.whole_columns:
        return ((first, last),)
    room = min(limits.block_bytes, limits.room - width * limits.state)
    step = height * max(1, min(room // max(1, row_bytes * height), limits.block_rows // height))
    starts = [first, *range(first // step * step + step, last, step)]
    return tuple(zip(starts, [*starts[1:], last], strict=True))
