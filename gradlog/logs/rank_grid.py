"""A regular chunk grid for a tensor that is put together of boxes, each with a chunk grid of its own.

Plans cut tensors along one regular grid. The boxes of a set begin and end where the processes' shares do, and
their chunks are counted from there: a cut that falls within a chunk lets it be decoded on both sides.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..quick_dataclass import dataclass

MOST_PARAMETERS = 1 << 23
"""Of a chunk of the grid, at most, where finer ones would let chunks be decoded twice: what columns carry on
takes memory."""
MOST_CHUNKS = 32
"""Chunks of a box that are tried as one of the grid."""
TALLEST = 4
"""Times the tallest chunk, the rows of one of the grid."""


@dataclass(frozen=True)
class PlacedChunks:
    """A box in a tensor. offset, shape : along the tensor's axes; chunks : of the box, with the rows first"""

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]


@dataclass(frozen=True)
class _Span:
    """What boxes take along one axis. chunk : extent of one; weight : entries that an index stands for"""

    start: int
    stop: int
    chunk: int
    weight: int


def common_chunks(shape: Sequence[int], boxes: Sequence[PlacedChunks]) -> tuple[int, ...]:
    """The finest grid whose lines cut no chunk of the boxes; where all such are too coarse, the one that cuts
    the least.

    shape : of the tensor; boxes : at least one

    Returns the extents of a chunk, with the rows first.
    """
    found: list[int] = []
    for axis in reversed(range(len(shape))):
        finest = (min(_extent(box, before) for box in boxes) for before in range(axis))
        rest = math.prod(finest) * math.prod(found)
        found.insert(0, _extent_of_grid(shape[axis], _spans(boxes, axis), MOST_PARAMETERS // max(1, rest)))
    return (_height([box.chunks[0] for box in boxes]), *found)


def _extent(box: PlacedChunks, axis: int) -> int:
    return max(1, min(box.chunks[axis + 1], box.shape[axis]))


def _spans(boxes: Sequence[PlacedChunks], axis: int) -> tuple[_Span, ...]:
    weights: dict[tuple[int, int, int], int] = {}
    for box in boxes:
        start = box.offset[axis]
        key = (start, start + box.shape[axis], _extent(box, axis))
        others = math.prod(extent for other, extent in enumerate(box.shape) if other != axis)
        weights[key] = weights.get(key, 0) + others
    return tuple(_Span(*key, weight) for key, weight in sorted(weights.items()))


@functools.lru_cache(maxsize=256)  # layers of a model are alike
def _extent_of_grid(extent: int, spans: tuple[_Span, ...], most: int) -> int:
    """Extent of a chunk of the grid along one axis. most : to keep to, unless chunks are larger themselves"""
    chunks = {span.chunk for span in spans}
    tried = {chunk * times for chunk in chunks for times in range(1, MOST_CHUNKS + 1)}
    tried |= {max(1, most // chunk) * chunk for chunk in chunks}
    tried |= {span.stop - span.start for span in spans}
    candidates = sorted({max(1, min(extent, size)) for size in (*tried, extent)})
    allowed = [size for size in candidates if size <= most] or candidates[:1]
    for size in allowed:
        if all(_cuts_no_chunk(size, span) for span in spans):
            return size
    return min(allowed, key=lambda size: sum(_decoded_again(size, span) for span in spans))


def _cuts_no_chunk(size: int, span: _Span) -> bool:
    first = (span.start // size + 1) * size  # the first line within
    if first >= span.stop:
        return True
    return (first - span.start) % span.chunk == 0 and (first + size >= span.stop or size % span.chunk == 0)


def _decoded_again(size: int, span: _Span) -> int:
    """Entries of chunks that lines of the grid cut, once for each line."""
    lines = np.arange((span.start // size + 1) * size, span.stop, size) - span.start
    into = lines % span.chunk
    chunks = np.minimum(span.chunk, span.stop - span.start - (lines - into))
    return int(chunks[into > 0].sum()) * span.weight


def _height(heights: Sequence[int]) -> int:
    """Rows of a chunk of the grid: whole chunks of all boxes, unless that is far more than any has."""
    common = math.lcm(*heights)
    return common if common <= TALLEST * max(heights) else max(heights)
