"""Spectra of the increments between rows of each window: pieces of matrices that an exact spectrum forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.gram import finite_doubles, squared_singular_values
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.state import PartState, State
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ...results.windows import Layout, window_rows
from ..spectra.exact_spectrum import RowGramSums
from ..spectra.spectrum import NAME as SPECTRUM
from . import SPECTRA

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class WindowSpectra(Measure):
    """Follows an exact spectrum over rows; without one it finds nothing. layout : of the windows"""

    name = SPECTRA
    layout: Layout

    def start(self, context: PassContext) -> SquaresOfWindows:
        """As of `Measure`."""
        return SquaresOfWindows(context, window_rows(self.layout, context.rows))


WindowSquares = Sequence[Doubles]
"""Of each window, sigma_i^2 of its increments, descending."""


@dataclass(frozen=True)
class TensorSquares:
    """sigma_i^2 of the windows of tensors that are whole in a piece, by number."""

    squares: Mapping[int, WindowSquares]


class SquaresOfWindows(Accumulator[TensorSquares]):
    """total, tensors : of each window, sigma_i^2 descending; none where nothing was multiplied"""

    of_every_tensor = False

    def __init__(self, context: PassContext, windows: NDArray[np.int64]) -> None:
        self._context = context
        # Increment t - 1 of the matrices lies between rows t - 1 and t.
        self._spans = [(int(first), max(int(first), int(last) - 1)) for first, last in windows]
        self.total: WindowSquares | None = None
        self.tensors: dict[int, WindowSquares] = {}
        self._sought: dict[int, Future[WindowSquares]] = {}
        spectrum = context.started.get(SPECTRUM)
        self._follows = isinstance(spectrum, RowGramSums)
        if isinstance(spectrum, RowGramSums):
            spectrum.listeners.append(self)

    def increments(self, tile: Tile) -> TensorSquares | None:
        """As of `Accumulator`: small tensors share a tile, and have no matrix over rows of their own."""
        if not self._follows or len(tile.strips) == 1:
            return None
        return TensorSquares({s.tensor: _squares(tile.of(s)[1:], self._spans) for s in tile.strips})

    def merge(self, piece: TensorSquares) -> None:
        """As of `Accumulator`."""
        self.tensors.update(piece.squares)

    def take_tensor(self, tensor: int, gram: NDArray[Any]) -> None:
        """As of `GramListener`."""

    def take_increments(self, tensor: int, gram: Doubles) -> None:
        """As of `GramListener`."""
        pending = [future for future in self._sought.values() if not future.done()]
        if len(pending) >= self._context.workers:
            pending[0].result()
        blocks = self._blocks(gram)
        self._sought[tensor] = self._context.pool.submit(_all_squares, blocks)

    def take_model(self, gram: Doubles, of_increments: Doubles) -> None:  # noqa: ARG002
        """As of `GramListener`."""
        self.total = _all_squares(self._blocks(of_increments))

    def _blocks(self, gram: Doubles) -> list[Doubles]:
        return [gram[first:last, first:last].copy() for first, last in self._spans]

    def _finish(self) -> None:
        for tensor, future in self._sought.items():
            self.tensors[tensor] = future.result()
        self._sought = {}
        if len(self._context.strips) == 1 and self.tensors:
            (self.total,) = self.tensors.values()  # one tensor is the whole model

    def state(self) -> State:
        """T : (W, most) of each tensor that is whole here, by number: sigma_i^2, -1 where there is none"""
        self._finish()
        return {str(tensor): _padded(squares) for tensor, squares in sorted(self.tensors.items())}

    def pieces(self, state: PartState) -> Iterator[TensorSquares]:
        """As of `Accumulator`."""
        for tensor in state.numbers():
            table = state.array(str(tensor), (len(self._spans), -1))
            if not np.isfinite(table).all() or (np.diff(table, axis=1) > 0).any():
                raise ValueError(f"{SPECTRA}/{tensor}.npy is no table of spectra")
            yield TensorSquares({tensor: [row[row >= 0] for row in table]})

    def result(self) -> SquaresOfWindows | None:
        """Itself; None without an exact spectrum over rows."""
        self._finish()
        return self if self._follows else None


def _by_size(sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Numbers of windows of the same size, which are worked on at once. most : rows of all of them"""
    of_size: dict[int, list[int]] = {}
    for number, size in enumerate(sizes):
        of_size.setdefault(size, []).append(number)
    for size, numbers in of_size.items():
        many = max(1, most // max(1, size))
        yield from (numbers[at : at + many] for at in range(0, len(numbers), many))


def _squares(increments: NDArray[np.floating[Any]], spans: Sequence[tuple[int, int]]) -> WindowSquares:
    """Of the windows of some columns. No more rows are copied at a time than there are.

    increments : (N - 1, W); spans : first and last + 1 of the increments of each window
    """
    found: dict[int, Doubles] = {}
    for numbers in _by_size([last - first for first, last in spans], increments.shape[0]):
        rows = finite_doubles(np.stack([increments[slice(*spans[number])] for number in numbers]))
        columns = rows.swapaxes(1, 2)
        grams = rows @ columns if rows.shape[1] <= rows.shape[2] else columns @ rows
        found |= zip(numbers, squared_singular_values(grams), strict=True)
    return [found[number] for number in range(len(spans))]


def _all_squares(blocks: Sequence[Doubles]) -> WindowSquares:
    """Of each block."""
    sizes = [block.shape[0] for block in blocks]
    found: dict[int, Doubles] = {}
    for numbers in _by_size(sizes, sum(sizes)):
        stack = np.stack([blocks[number] for number in numbers])
        found |= zip(numbers, squared_singular_values(stack), strict=True)
    return [found[number] for number in range(len(blocks))]


def _padded(squares: WindowSquares) -> Doubles:
    table = np.full((len(squares), max((row.size for row in squares), default=0)), -1.0)
    for into, row in zip(table, squares, strict=True):
        into[: row.size] = row
    return table
