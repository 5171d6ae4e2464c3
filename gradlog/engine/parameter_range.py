"""A range of a log's parameters, read together: its segments, its blocks of rows and its tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..quick_dataclass import dataclass

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


def one_tile(segments: Sequence[Segment]) -> tuple[Strips, ...]:
    """All columns as a single tile."""
    stops = itertools.accumulate(segment.width for segment in segments)
    strips = (Strip(s.tensor, stop - s.width, stop) for s, stop in zip(segments, stops, strict=True))
    return (tuple(strips),)


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
