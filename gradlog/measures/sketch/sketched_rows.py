"""Rows of a sketch while gradients stream: handed on tensor by tensor, or kept as the state of a part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.block import Block
from ...engine.measure import PassContext
from ...engine.state import PartState, State, TensorError
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ..path_lengths.path_lengths import check_strips
from .projected_sums import ProjectedSums
from .sketch_choice import SketchChoice

Doubles = NDArray[np.float64]

OPEN_BLOCKS = 2
"""Blocks of small tensors that copies of are there at once."""


@dataclass(frozen=True)
class RowsOfSketch:
    """What tiles and parts add.

    rows : (tensor, index t of the first row, values (T, D)) of small tensors, each whole
    sums : (tensor, strips that they are of, S x of every row (N, M)) of wide tensors
    """

    rows: Sequence[tuple[int, int, NDArray[Any]]] = ()
    sums: Sequence[tuple[int, int, Doubles]] = ()


class SketchedRows(ProjectedSums[RowsOfSketch]):
    """Hands rows to the context's sink once they are whole; keeps them where there is none."""

    def __init__(self, choice: SketchChoice, doubles: frozenset[int], context: PassContext) -> None:
        """doubles : as of `StoredSketch`"""
        super().__init__(choice, context)
        self._doubles = doubles
        self._copied = 0
        self._whole: dict[int, NDArray[Any]] = {}
        self._rows: dict[int, NDArray[Any]] = {}

    def begin_block(self, block: Block) -> None:
        """As of `Accumulator`."""
        self._copied += not self._sketcher.projects(block)

    def admits(self, block: Block) -> bool:
        """As of `Accumulator`."""
        if self._sketcher.projects(block):
            return self._sketcher.has_room(block)
        return self._copied <= OPEN_BLOCKS

    def enter(self, tile: Tile) -> None:
        """As of `Accumulator`."""
        if self._sketcher.projects(tile.block):
            self._turns[tile.key, tile.start] = self._sketcher.turn(tile.block)

    def gradients(self, tile: Tile) -> RowsOfSketch | None:
        """As of `Accumulator`: projections are added up in the pool, and whole at the end of a block."""
        turn = self._turns.get((tile.key, tile.start))
        if turn is not None:
            self._sketcher.project(turn, tile.block, tile.strips)
            return None
        return RowsOfSketch([(strip.tensor, tile.start, tile.of(strip).copy()) for strip in tile.strips])

    def leave(self, tile: Tile) -> None:
        """As of `Accumulator`."""
        turn = self._turns.pop((tile.key, tile.start), None)
        if turn is not None:
            turn.finish()

    def merge(self, piece: RowsOfSketch) -> None:
        """As of `Accumulator`."""
        for tensor, first, values in piece.rows:
            self._take_rows(tensor, first, values)
        for tensor, strips, sums in piece.sums:
            self._add(tensor, strips, sums)

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:  # noqa: ARG002
        """As of `Accumulator`."""
        if not self._sketcher.projects(block):
            self._copied -= 1
            return
        done = self._sketcher.merged(block)
        if done is not None and done[0] is not None:
            self._add(done[0], self._strips[done[0]], done[1])

    def _take_rows(self, tensor: int, first: int, values: NDArray[Any]) -> None:
        if self._context.sink is not None:
            self._context.sink(tensor, first, values)
            return
        if tensor not in self._rows:
            self._rows[tensor] = np.zeros((self._context.rows, values.shape[1]), self._dtype(tensor))
        self._rows[tensor][first : first + values.shape[0]] = values

    def _complete(self, tensor: int, sums: Doubles) -> None:
        """As of `ProjectedSums`."""
        with np.errstate(over="ignore", invalid="ignore"):
            whole = sums.astype(self._dtype(tensor))
        if self._context.sink is None:
            self._whole[tensor] = whole
        else:
            self._context.sink(tensor, 0, whole)

    def _dtype(self, tensor: int) -> type[np.floating[Any]]:
        return np.float64 if tensor in self._doubles else np.float32

    def state(self) -> State:
        """rows/T : (N, D) of small tensors; whole/T : (N, M) sums of wide ones

        sums/T : (N, M) float64 of wide ones with strips elsewhere
        """
        found: dict[str, NDArray[Any]] = {}
        for folder, held in (("rows", self._rows), ("whole", self._whole), ("sums", self._open)):
            found |= {f"{folder}/{tensor}": held[tensor] for tensor in sorted(held)}
        return found

    def pieces(self, state: PartState) -> Iterator[RowsOfSketch]:
        """As of `Accumulator`."""
        context, dim = self._context, self._choice.known_dim
        small, whole, cut = (state.numbers(folder) for folder in ("rows", "whole", "sums"))
        check_strips(state, context.strips, [*small, *whole], cut, "the sketch")
        held = {*small, *whole, *cut}
        for tensor in context.strips:
            if state.strips(tensor) and tensor not in held:
                raise TensorError("it holds no sketch of tensor {}", tensor)
        for tensor in small:
            values = state.array(f"rows/{tensor}", (context.rows, context.parameters[tensor]))
            yield RowsOfSketch(rows=[(tensor, 0, values)])
        for folder, tensors in (("whole", whole), ("sums", cut)):
            for tensor in tensors:
                # Added to where others follow, and the state's arrays stay as they are.
                sums = state.array(f"{folder}/{tensor}", (context.rows, dim)).copy()
                yield RowsOfSketch(sums=[(tensor, state.strips(tensor), sums)])

    def result(self) -> Mapping[int, NDArray[Any]]:
        """Rows of tensors by number, those that no sink has taken."""
        for tensor in self._open:
            raise TensorError("a part of tensor {} is missing", tensor)
        return self._rows | self._whole
