"""Inventory of a tensor's chunks: which of them are stored, and which rows those that are not would hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ..quick_dataclass import dataclass


@dataclass(frozen=True)
class ChunkInventory:
    """Chunks that hold committed rows of one tensor.

    expected : chunks of the grid that reach below row `rows`; absent : coordinates of those not stored,
    in order (inner chunks of shards, where there are shards); stored_bytes : encoded size of what is
    stored, uncommitted rows included; None when not asked for
    axis : number of the axis that rows lie along, in the coordinates
    height : rows of a chunk; across : chunks that hold the same rows
    """

    expected: int
    absent: tuple[tuple[int, ...], ...]
    stored_bytes: int | None
    axis: int = 0
    height: int = 1
    across: int = 1

    @property
    def absent_from(self) -> str:
        """What lacks the absent chunks, in words, where the tensor is stored in several places."""
        return ""

    def since(self, row: int) -> ChunkInventory:
        """The part of the inventory whose chunks reach row `row` or later."""
        first = row // self.height
        absent = tuple(chunk for chunk in self.absent if chunk[self.axis] >= first)
        return replace(self, expected=self.expected - first * self.across, absent=absent)

    def absent_rows(self, rows: int) -> tuple[int, int]:
        """First and last row (inclusive) below row `rows` that the absent chunks touch."""
        first = min(chunk[self.axis] for chunk in self.absent) * self.height
        last = (max(chunk[self.axis] for chunk in self.absent) + 1) * self.height - 1
        return first, min(last, rows - 1)

    def unwritten_from(self, rows: tuple[int, int]) -> int:
        """The first of `rows` from which on all chunks are absent, the end of the rows without any."""
        missing = Counter(chunk[self.axis] for chunk in self.absent)
        row = -(-rows[1] // self.height)
        while row > rows[0] // self.height and missing[row - 1] == self.across:
            row -= 1
        return min(rows[1], row * self.height)


def grid_shape(shape: Sequence[int], chunks: Sequence[int]) -> tuple[int, ...]:
    """Number of chunks along each axis."""
    return tuple(-(-extent // max(1, size)) for extent, size in zip(shape, chunks, strict=True))
