"""Sketches of increments while they stream: each tile's columns are projected once its fused pass is done.

Sums over the columns of a tensor are taken in the order of the plan, whichever thread comes first: a tile
waits for the one before it, some rows at a time. So any number of threads gives the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.projection import compile_projection
from ...engine.block import Block
from ...engine.parameter_range import ParameterRange, Strip, Strips
from ...logs.log import Tensor
from ...quick_dataclass import dataclass
from ...results.projection import Projection
from .projected_rows import Piece, pieces, project_rows
from .sketch_choice import SketchChoice

ROWS_AT_ONCE = 64
"""Rows that a tile projects before the next tile may follow it, at most: blocks of few rows take fewer, so
that there is work for all threads."""
LEAST_ROWS = 8
OPEN_UNITS = 2


@dataclass
class _Unit:
    """Tensors whose projections share an array (N, M): a wide tensor, or the small ones of a range.

    latest : for each stretch of rows, when the last tile that has any of them is done with them
    """

    tensor: int | None
    missing: int
    sums: NDArray[np.float64] | None = None
    latest: dict[int, threading.Event] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """A tile's place in its unit: `before` and `done` hold an event for each stretch of rows from `first` on.

    Stretches are those of the run, not of the block: ranges of a tensor may cut its rows into other blocks.
    """

    unit: _Unit
    first: int
    before: list[threading.Event | None]
    done: list[threading.Event]

    def finish(self) -> None:
        """Let the next tile go on, whatever became of this one."""
        for event in self.done:
            event.set()


class Sketcher:
    """Projects tiles into their units' sums, in the order of the plan.

    The caller takes a `turn` for each tile in that order, runs `project` in any thread, and `finish`es it.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        ranges: Sequence[ParameterRange],
        choice: SketchChoice,
        rows: int,
        workers: int,
    ) -> None:
        """ranges : that are read, in order; rows : of the run; workers : tiles in work at once"""
        self.projection: Projection = choice.projection
        self._tensors = tensors
        self._choice = choice
        self._rows = rows
        least = min((last - first for item in ranges for first, last in item.row_blocks), default=1)
        self._rows_at_once = max(LEAST_ROWS, min(ROWS_AT_ONCE, -(-least // workers)))
        self._bases = [self.projection.bases(tensor.name) for tensor in tensors]
        self._units: dict[int, _Unit] = {}
        self._unit_of = [self._unit(index, item) for index, item in enumerate(ranges)]
        self._open = 0
        for dtype in sorted({tensor.compute_dtype for tensor in tensors}, key=str):
            compile_projection(dtype)

    def _unit(self, index: int, item: ParameterRange) -> _Unit:
        tensor = item.segments[0].tensor
        wide = self._choice.is_wide(self._tensors[tensor])
        unit = self._units.setdefault(tensor if wide else -1 - index, _Unit(tensor if wide else None, 0))
        unit.missing += item.tile_count * len(item.row_blocks)
        return unit

    @property
    def units(self) -> int:
        """Number of arrays that sums are taken in, one after another."""
        return len(self._units)

    def projects(self, block: Block) -> bool:
        """Whether a block is of a wide tensor."""
        return self._unit_of[block.range_index].tensor is not None

    def has_room(self, block: Block) -> bool:
        """Whether the sums of a block's unit are there, or may be put beside those that are."""
        return self._unit_of[block.range_index].sums is not None or self._open < OPEN_UNITS

    def turn(self, block: Block) -> Turn:
        """The place of the next tile of a block."""
        unit = self._unit_of[block.range_index]
        if unit.sums is None:
            unit.sums = np.zeros((self._rows, self.projection.dim))
            self._open += 1
        stop = block.start + block.values.shape[0]
        stretches = range(block.start // self._rows_at_once, -(-stop // self._rows_at_once))
        done = [threading.Event() for _ in stretches]
        turn = Turn(unit, stretches.start, [unit.latest.get(stretch) for stretch in stretches], done)
        unit.latest.update(zip(stretches, done, strict=True))
        return turn

    def project(self, turn: Turn, block: Block, strips: Strips) -> None:
        """Add the projections of a tile's columns to the sums of its unit."""
        assert turn.unit.sums is not None
        count = block.values.shape[0]
        sums = turn.unit.sums[block.start : block.start + count]
        stretches = [(strip.tensor, list(self.pieces_of(block.range, strip))) for strip in strips]
        for number, (before, done) in enumerate(zip(turn.before, turn.done, strict=True), turn.first):
            if before is not None:
                before.wait()
            first = number * self._rows_at_once - block.start
            rows = max(0, first), min(first + self._rows_at_once, count)
            for tensor, found in stretches:
                self._add(tensor, block.values, rows, found, sums)
            done.set()

    def pieces_of(self, item: ParameterRange, strip: Strip) -> list[Piece]:
        """A strip's columns as stretches of its tensor's coordinates."""
        segment, offset = item.segment_of(strip)
        shape = self._tensors[strip.tensor].shape
        return list(pieces(shape, segment.box, strip.first, strip.last, offset))

    def _add(
        self,
        tensor: int,
        values: NDArray[np.floating[Any]],
        rows: tuple[int, int],
        found: Sequence[Piece],
        sums: NDArray[np.float64],
    ) -> None:
        if tensor not in self._choice.stored:
            project_rows(values, rows, found, self._bases[tensor], self.projection.groups, sums)
            return
        for piece in found:  # a sketch already: its coordinates are the sums, scaled
            scaled = values[slice(*rows), piece.first : piece.last] * np.sqrt(float(self.projection.groups))
            sums[slice(*rows), piece.index : piece.index + piece.last - piece.first] += scaled

    def merged(self, block: Block) -> tuple[int | None, NDArray[np.float64]] | None:
        """Count the tiles of a block as done.

        Where that completes the unit: its wide tensor, and S x of every row (N, M) float64.
        """
        unit = self._unit_of[block.range_index]
        unit.missing -= block.range.tile_count
        if unit.missing:
            return None
        sums, unit.sums = unit.sums, None
        unit.latest.clear()
        assert sums is not None
        self._open -= 1
        sums /= np.sqrt(float(self.projection.groups))
        return unit.tensor, sums
