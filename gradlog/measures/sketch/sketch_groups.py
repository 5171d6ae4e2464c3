"""Cut the strips of stored sketches at the borders of their groups of sums, each an independent sketch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ...engine.parameter_range import ParameterRange, Strip
from ...logs.log import Tensor
from ...results.projection import Projection
from .projected_rows import pieces


def by_groups(
    item: ParameterRange, tensors: Sequence[Tensor], stored: Mapping[int, int], projection: Projection
) -> ParameterRange:
    """The range with the strips of stored sketches cut at the borders of groups."""

    def cut(strip: Strip) -> Iterator[Strip]:
        if strip.tensor not in stored:
            yield strip
            return
        segment, offset = item.segment_of(strip)
        for piece in pieces(tensors[strip.tensor].shape, segment.box, strip.first, strip.last, offset):
            first, index = piece.first, piece.index
            while first < piece.last:
                group = index // projection.width
                last = min(piece.last, first + (group + 1) * projection.width - index)
                yield Strip(strip.tensor, first, last, group)
                index += last - first
                first = last

    tiles = tuple(tuple(small for strip in tile for small in cut(strip)) for tile in item.tiles)
    return replace(item, cut=tiles)
