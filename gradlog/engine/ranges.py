"""Cut a log's parameters into ranges along the chunk grid, and its rows into blocks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..quick_dataclass import dataclass
from ..sizes import format_size
from .parameter_range import Box, ParameterRange, Segment
from .range_table import RangeForm, Ranges, Run, Shape, TensorRanges

TILE_WIDTH = 4096
"""Columns of one unit of work, where rows are many. It follows from the number of rows alone, so that sums
are formed alike whatever the memory and the threads."""
TILE_ROWS = 256
"""Rows from which on a tile is no wider: of fewer it takes more columns, for a task has its own price."""
WIDEST_TILE = 16
"""Times TILE_WIDTH, the widest tile."""
BLOCK_BYTES = 64 << 20
"""Size of a block aimed at, where the chunk grid leaves the choice."""
SMALL_BLOCK_BYTES = 32 << 20
"""The same where three blocks are in memory: chunks are waited for, or blocks are held of HELD_ROWS."""
TALL_WIDTH = 8 * TILE_WIDTH
"""Columns of a block that leave enough tiles to share, where it could be wider and less tall."""
BLOCK_ROWS = 1 << 13
"""Rows of a block at most, where the chunk grid leaves the choice."""

WEIGHT_BYTES = 32 << 20
"""Size of a table of predictor weights to stay below, where a block may have fewer rows."""


@dataclass(frozen=True)
class Limits:
    """What bounds a block: `room` bytes for blocks and states, `state` bytes of state per column.

    whole_columns : a block holds all rows of its columns, as the Gram matrix over rows needs them
    block_rows : rows of a block at most, where the chunk grid leaves the choice
    group : tensors of a range at most, None for as many as are small
    tile : columns of a tile, None for TILE_WIDTH
    widest : columns of a range at most, where the chunk grid leaves the choice, None for as many as fit
    small : blocks of SMALL_BLOCK_BYTES will do
    """

    rows: tuple[int, int]
    room: int
    state: int
    whole_columns: bool
    block_rows: int
    group: int | None = None
    tile: int | None = None
    widest: int | None = None
    small: bool = False

    @property
    def tile_width(self) -> int:
        """Columns of a tile."""
        return self.tile or TILE_WIDTH

    @property
    def block_bytes(self) -> int:
        """Size of a block to aim at: two of them and their states fit."""
        return max(1, min(SMALL_BLOCK_BYTES if self.small else BLOCK_BYTES, self.room // 3))

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.rows[1] - self.rows[0]


def most_block_rows(weight_columns: int) -> int:
    """Rows of a block at most, given the float64 weights of predictors for each row."""
    return min(BLOCK_ROWS, max(16, WEIGHT_BYTES // (8 * max(1, weight_columns))))


def tile_width(rows: int) -> int:
    """Columns of a tile of so many rows."""
    return TILE_WIDTH * max(1, min(WIDEST_TILE, TILE_ROWS // max(1, rows)))


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
) -> Ranges:
    """Ranges in the order of the tensors, neighbouring small tensors grouped.

    apart : of tensors that share no range with others
    """
    return Ranges(_column_runs(tensors, limits, apart))


def _column_runs(
    tensors: Sequence[Tensor], limits: Limits, apart: Callable[[Tensor], bool] | None
) -> Iterator[Run]:
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
            yield _tensor_ranges(index, tensor, limits)
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


def _tensor_ranges(index: int, tensor: Tensor, limits: Limits) -> Run:
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
    # A chunk that is stored as it is can be read a piece at a time, at no cost beyond its bytes.
    free = tensor.read_in_part
    finest = max(1, min(most, wanted)) if free else most

    def form(shape: Shape, decodes: int) -> RangeForm:
        width = math.prod(shape)
        blocks = _row_blocks(tensor.chunks[0], width, width * entry, limits)
        return RangeForm(shape, blocks, limits.tile_width, decodes)

    if tensor.parameters <= min(max(1, wanted), finest):
        return form(tensor.shape, 1).at(index, [0] * len(tensor.shape))
    grid = _grid_boxes(tensor.shape, tensor.chunks[1:], max(1, wanted))
    boxes, pieces = grid.each_cut(lambda shape: _pieces(shape, finest, limits.tile_width))
    keys = boxes.kinds * (pieces.max() + 1) + (1 if free else pieces)
    _, first, kinds = np.unique(keys, return_index=True, return_inverse=True)
    forms = [form(boxes.shapes[boxes.kinds[at]], 1 if free else int(pieces[at])) for at in first.tolist()]
    return TensorRanges(index, boxes.starts, kinds, forms)


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


@dataclass(frozen=True)
class _Boxes:
    """Boxes that a larger one is cut into, in order: (n, axes) starts, and the number of each one's shape."""

    starts: NDArray[np.int64]
    kinds: NDArray[np.int64]
    shapes: tuple[Shape, ...]

    @classmethod
    def whole(cls, shape: Shape) -> _Boxes:
        """The box itself."""
        return cls(np.zeros((1, len(shape)), dtype=np.int64), np.zeros(1, dtype=np.int64), (shape,))

    def each_cut(self, cut: Callable[[Shape], _Boxes]) -> tuple[_Boxes, NDArray[np.int64]]:
        """Every box cut further, and of each of these boxes the number of those that its own is cut into."""
        cuts = [cut(shape) for shape in self.shapes]
        shapes = {
            shape: number for number, shape in enumerate(dict.fromkeys(s for c in cuts for s in c.shapes))
        }
        lengths = np.array([c.kinds.size for c in cuts])
        times = lengths[self.kinds]
        # The place of each in the cuts of one box of every shape, all in a row.
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        places = np.repeat((np.cumsum(lengths) - lengths)[self.kinds], times) + within
        starts = np.concatenate([c.starts for c in cuts])[places]
        starts += np.repeat(self.starts, times, axis=0)
        kinds = np.concatenate([np.array([shapes[s] for s in c.shapes])[c.kinds] for c in cuts])[places]
        return _Boxes(starts, kinds, tuple(shapes)), np.repeat(times, times)


def _cut_along(shape: Shape, axis: int, step: int, cut: Callable[[Shape], _Boxes]) -> _Boxes:
    """Boxes of `step` along an axis, and what is left at its end, each cut further."""
    count, rest = divmod(shape[axis], step)
    extents = [step] * bool(count) + [rest] * bool(rest)
    shapes = tuple((*shape[:axis], extent, *shape[axis + 1 :]) for extent in extents)
    starts = np.zeros((count + bool(rest), len(shape)), dtype=np.int64)
    starts[:, axis] = step * np.arange(starts.shape[0])
    kinds = np.zeros(starts.shape[0], dtype=np.int64)
    kinds[count:] = len(shapes) - 1
    return _Boxes(starts, kinds, shapes).each_cut(cut)[0]


def _grid_boxes(shape: Shape, chunks: Sequence[int], wanted: int) -> _Boxes:
    """Cut a box along chunk borders into boxes of at most `wanted` parameters, or of one chunk."""
    width = math.prod(shape)
    if width > wanted:
        for axis, (extent, size) in enumerate(zip(shape, chunks, strict=True)):
            if extent > size:
                step = size * max(1, wanted // (size * (width // extent)))
                return _cut_along(shape, axis, step, lambda part: _grid_boxes(part, chunks, wanted))
    return _Boxes.whole(shape)


def _pieces(shape: Shape, most: int, width_of_tile: int) -> _Boxes:
    """Cut a box into boxes of at most `most` parameters, across chunks if need be."""
    width = math.prod(shape)
    if width > most:
        for axis, extent in enumerate(shape):
            if extent > 1:
                rest = width // extent
                parts = -(-extent // max(1, most // rest))
                step = -(-extent // parts)
                # Whole tiles, where that costs no further piece, keep the sums the same for any memory.
                tile = max(1, width_of_tile // rest)
                if step % tile and (rounded := -(-step // tile) * tile) * rest <= most:
                    step = rounded
                return _cut_along(shape, axis, step, lambda part: _pieces(part, most, width_of_tile))
    return _Boxes.whole(shape)


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
