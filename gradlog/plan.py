"""The plan of a pass: which parameters are read together, in which blocks of rows, within what memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .errors import MemoryLimitError
from .log import Tensor

TILE_WIDTH = 4096
"""Columns of one unit of work. Fixed, so that sums are formed alike whatever the memory and the threads."""
BLOCK_BYTES = 64 << 20
"""Size of a block aimed at, where the chunk grid leaves the choice."""
BLOCK_ROWS = 1 << 14
"""Rows of a block at most, where the chunk grid leaves the choice."""
SLACK = 1.1
"""A plan may go this far over the memory asked for, rather than decode chunks twice."""

Box = tuple[slice, ...]


@dataclass(frozen=True)
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
class Part:
    """Columns first .. last - 1 of a range, all of one tensor."""

    tensor: int
    first: int
    last: int


@dataclass(frozen=True)
class ParameterRange:
    """Parameters read together, side by side as the columns of a block.

    row_blocks : (first, last + 1) stored rows of each block, in order; decodes : how often each of its
    chunks is decoded in the whole pass, 1 unless memory forces a chunk to be taken in pieces;
    undivided : its columns are one tile, whatever their number
    """

    segments: tuple[Segment, ...]
    row_blocks: tuple[tuple[int, int], ...]
    decodes: int = 1
    undivided: bool = False

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(segment.width for segment in self.segments)

    @property
    def block_rows(self) -> int:
        """Rows of the largest block."""
        return max(last - first for first, last in self.row_blocks)

    def tiles(self) -> Iterator[tuple[Part, ...]]:
        """Units of work: tiles of one wide segment, or all segments of a group of small tensors."""
        if self.undivided or len(self.segments) > 1:
            stops = itertools.accumulate(segment.width for segment in self.segments)
            yield tuple(
                Part(segment.tensor, stop - segment.width, stop)
                for segment, stop in zip(self.segments, stops, strict=True)
            )
            return
        for first in range(0, self.width, TILE_WIDTH):
            yield (Part(self.segments[0].tensor, first, min(first + TILE_WIDTH, self.width)),)


@dataclass(frozen=True)
class Plan:
    """How a log will be read.

    rows : (first, last + 1) stored rows
    method : "exact" or "none"
    by_columns : the exact spectrum is taken from the D x D side, because D < N - 1
    block_bytes : the largest block in memory; buffers : blocks in memory at once
    workers : tiles in work at once
    memory : estimated peak in bytes, above the interpreter and its libraries
    decoded_bytes : of gradients, in their stored types
    """

    rows: tuple[int, int]
    ranges: tuple[ParameterRange, ...]
    method: str
    by_columns: bool
    block_bytes: int
    buffers: int
    workers: int
    memory: int
    decoded_bytes: int

    @property
    def decodes(self) -> int:
        """How often the chunk that is decoded most often is decoded."""
        return max((r.decodes for r in self.ranges), default=1)


@dataclass(frozen=True)
class _Limits:
    """What bounds a block: `room` bytes for blocks and states, `state` bytes of state per column."""

    rows: tuple[int, int]
    room: int
    state: int
    whole_columns: bool
    """A block holds all rows of its columns: the Gram matrix over rows needs them together."""

    @property
    def count(self) -> int:
        return self.rows[1] - self.rows[0]


def make_plan(
    tensors: Sequence[Tensor],
    rows: tuple[int, int],
    *,
    rank: str,
    history_rows: int,
    sum_columns: int,
    memory: int,
    threads: int,
) -> Plan:
    """Choose ranges, blocks and the side of the exact spectrum.

    Parameters
    ----------
    rows : (first, last + 1) stored rows to read
    rank : "auto", "exact" or "none"
    history_rows, sum_columns : float64 values that the fused pass keeps per parameter and per row
    memory : bytes to stay within; threads : tiles in work at once

    Raises MemoryLimitError when even the smallest plan does not fit.
    """
    count = rows[1] - rows[0]
    parameters = sum(tensor.parameters for tensor in tensors)
    exact = rank != "none"
    by_columns = exact and parameters < count - 1
    over_rows = exact and not by_columns
    size = parameters if by_columns else count - 1
    for workers in range(max(1, threads), 0, -1):
        # Gram matrices: the total's, a tensor's, LAPACK's copy, and one each in work or waiting to be added.
        copies = 2 + (len(tensors) > 1) + (workers + 1 if over_rows else 1)
        gram_bytes = 8 * size * size * copies if exact else 0
        fixed = 8 * count * sum_columns * (workers + 3) + gram_bytes
        if fixed <= memory // 2:
            break
    room = int(memory * SLACK) - fixed
    if room < memory // 8:
        if exact:
            what = f"the exact rank of {count} rows works on {copies} matrices of {size} x {size}"
            instead = ", or fewer rows with --rows, or --rank none for path lengths alone"
        else:
            what, instead = f"the sums of {count} rows", ", or fewer rows with --rows"
        raise MemoryLimitError(
            f"{what}, more than --memory {format_size(memory)} holds: "
            f"give --memory {format_size(fixed * 8 // 7)}{instead}"
        )
    limits = _Limits(rows, room, 0 if over_rows else 8 * history_rows, over_rows)
    ranges = tuple(_all_columns(tensors, limits) if by_columns else _ranges(tensors, limits))
    block = max((_block_bytes(tensors, item) for item in ranges), default=0)
    beside = max((item.width * limits.state + _reading_bytes(tensors, item) for item in ranges), default=0)
    buffers = 2 if 2 * block + beside <= room else 1
    decoded = sum(
        item.decodes * count * segment.width * tensors[segment.tensor].array.dtype.itemsize
        for item in ranges
        for segment in item.segments
    )
    return Plan(
        rows, ranges, "exact" if exact else "none", by_columns, block, buffers, workers,
        fixed + buffers * block + beside, decoded,
    )  # fmt: skip


def format_size(size: int) -> str:
    """A number of bytes as --memory takes it, rounded up: 512M, 3G."""
    if size < 10 << 30:
        return f"{max(1, -(-size >> 20))}M" if size % (1 << 30) else f"{size >> 30}G"
    return f"{-(-size // (1 << 30))}G"


def _entry_bytes(tensor: Tensor) -> int:
    """Bytes that one gradient entry takes while its block is read: converted types stand there twice."""
    compute = tensor.compute_dtype.itemsize
    stored = tensor.array.dtype
    return compute if stored == tensor.compute_dtype else compute + stored.itemsize


def _block_bytes(tensors: Sequence[Tensor], item: ParameterRange) -> int:
    """Bytes of a block as it is computed with: one dtype for all of its columns."""
    entry = max(tensors[segment.tensor].compute_dtype.itemsize for segment in item.segments)
    return item.block_rows * item.width * entry


def _reading_bytes(tensors: Sequence[Tensor], item: ParameterRange) -> int:
    """Bytes beside the block while its segments are read one by one and converted or put in place."""
    stored = {tensors[segment.tensor].array.dtype for segment in item.segments}
    computed = {tensors[segment.tensor].compute_dtype for segment in item.segments}
    if len(item.segments) > 1 or stored != computed:
        return item.block_rows * max(s.width * tensors[s.tensor].array.dtype.itemsize for s in item.segments)
    return 0


def _ranges(tensors: Sequence[Tensor], limits: _Limits) -> Iterator[ParameterRange]:
    """Ranges in the order of the tensors, neighbouring small tensors grouped."""
    group: list[int] = []

    def grouped() -> Iterator[ParameterRange]:
        if group:
            segments = tuple(Segment(index, _whole(tensors[index])) for index in group)
            height = tensors[group[0]].chunks[0]
            width = sum(segment.width for segment in segments)
            entry = max(_entry_bytes(tensors[index]) for index in group)
            yield ParameterRange(segments, _row_blocks(height, width * entry, limits))
            group.clear()

    for index, tensor in enumerate(tensors):
        if tensor.parameters == 0:
            continue
        if not _is_small(tensor, limits):
            yield from grouped()
            yield from _tensor_ranges(index, tensor, limits)
            continue
        if group:
            first = tensors[group[0]]
            width = sum(tensors[other].parameters for other in group)
            apart = not limits.whole_columns and first.chunks[0] != tensor.chunks[0]
            if apart or first.compute_dtype != tensor.compute_dtype or width >= TILE_WIDTH:
                yield from grouped()
        group.append(index)
    yield from grouped()


def _is_small(tensor: Tensor, limits: _Limits) -> bool:
    """Fit to be grouped: narrow, and its spectrum is taken from the column side."""
    if tensor.parameters > TILE_WIDTH // 2:
        return False
    return not limits.whole_columns or tensor.parameters < limits.count - 1


def _tensor_ranges(index: int, tensor: Tensor, limits: _Limits) -> Iterator[ParameterRange]:
    """Ranges of one tensor, along its chunk grid where memory allows."""
    entry = _entry_bytes(tensor)
    height = min(tensor.chunks[0], limits.count)
    if limits.whole_columns:
        per_column = entry * limits.count
        wanted = BLOCK_BYTES // per_column
    else:
        per_column = entry * height + limits.state
        wanted = min(BLOCK_BYTES // (entry * height), limits.room // 4 // max(1, limits.state))
    most = limits.room // per_column
    if most < 1:
        raise MemoryLimitError(
            f"tensor '{tensor.name}': one parameter over {limits.count} rows takes "
            f"{format_size(per_column)}: give --memory {format_size(per_column * 2)}"
        )
    for box in _grid_boxes(_whole(tensor), tensor.chunks[1:], max(1, wanted)):
        pieces = list(_pieces(box, most))
        for piece in pieces:
            segment = Segment(index, piece)
            blocks = _row_blocks(tensor.chunks[0], segment.width * entry, limits)
            yield ParameterRange((segment,), blocks, len(pieces))


def _all_columns(tensors: Sequence[Tensor], limits: _Limits) -> Iterator[ParameterRange]:
    """One range of all tensors, for a spectrum over columns (D < N - 1)."""
    used = [index for index, tensor in enumerate(tensors) if tensor.parameters]
    if not used:
        return
    heights = {tensors[index].chunks[0] for index in used}
    segments = tuple(Segment(index, _whole(tensors[index])) for index in used)
    row_bytes = sum(s.width * _entry_bytes(tensors[s.tensor]) for s in segments)
    height, decodes = math.lcm(*heights), 1
    if height * row_bytes > limits.room // 2 and len(heights) > 1 and height < limits.count:
        height, decodes = max(heights), 2
    yield ParameterRange(segments, _row_blocks(height, row_bytes, limits), decodes, undivided=True)


def _whole(tensor: Tensor) -> Box:
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


def _pieces(box: Box, most: int) -> Iterator[Box]:
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
                tile = max(1, TILE_WIDTH // rest)
                if step % tile and (rounded := -(-step // tile) * tile) * rest <= most:
                    step = rounded
                for start in range(part.start, part.stop, step):
                    cut = slice(start, min(start + step, part.stop))
                    yield from _pieces((*box[:axis], cut, *box[axis + 1 :]), most)
                return
    yield box


def _row_blocks(height: int, row_bytes: int, limits: _Limits) -> tuple[tuple[int, int], ...]:
    """Blocks of rows along the chunk grid, about BLOCK_BYTES each; a single one where columns stay whole."""
    first, last = limits.rows
    if limits.whole_columns:
        return ((first, last),)
    step = height * max(1, min(BLOCK_BYTES // max(1, row_bytes * height), BLOCK_ROWS // height))
    starts = [first, *range(first // step * step + step, last, step)]
    return tuple(zip(starts, [*starts[1:], last], strict=True))
