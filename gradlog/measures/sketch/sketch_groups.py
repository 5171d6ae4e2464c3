"""Cut the parts of stored sketches at the borders of their groups of sums, each an independent sketch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ...engine.ranges import ParameterRange, Part
from ...logs.log import Tensor
from ...results.projection import Projection
from .projected_rows import pieces


def by_groups(
    item: ParameterRange, tensors: Sequence[Tensor], stored: Mapping[int, int], projection: Projection
) -> ParameterRange:
    """The range with the parts of stored sketches cut at the borders of groups."""

    def cut(part: Part) -> Iterator[Part]:
        if part.tensor not in stored:
            yield part
            return
        segment, offset = item.segment_of(part)
        for piece in pieces(tensors[part.tensor].shape, segment.box, part.first, part.last, offset):
            first, index = piece.first, piece.index
            while first < piece.last:
                group = index // projection.width
                last = min(piece.last, first + (group + 1) * projection.width - index)
                yield Part(part.tensor, first, last, group)
                index += last - first
                first = last

    tiles = tuple(tuple(small for part in tile for small in cut(part)) for tile in item.tiles)
    return replace(item, tiles=tiles)
