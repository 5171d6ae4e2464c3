"""Spectra of the increments between rows of each window: pieces of matrices that an exact spectrum forms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.gram import finite_doubles, squared_singular_values
from ...engine.backlog import Backlog
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


WindowSquares = Doubles
"""(W, n) sigma_i^2 of the increments of each window, descending, zeros at the end where there are fewer."""


@dataclass(frozen=True)
class TensorSquares:
    """sigma_i^2 of the windows of tensors that are whole in a piece, by number."""

    squares: Mapping[int, WindowSquares]


class SquaresOfWindows(Accumulator[TensorSquares]):
    """total, tensors : none where nothing was multiplied"""

    of_every_tensor = False

    def __init__(self, context: PassContext, windows: NDArray[np.int64]) -> None:
        self._context = context
        self._spans = Spans(windows)
        self.total: WindowSquares | None = None
        self.tensors: dict[int, WindowSquares] = {}
        self._backlog = Backlog(context.pool, context.workers)
        self._sought: dict[int, Future[WindowSquares]] = {}
        spectrum = context.started.get(SPECTRUM)
        self._follows = isinstance(spectrum, RowGramSums)
        if isinstance(spectrum, RowGramSums):
            spectrum.listeners.append(self)

    def increments(self, tile: Tile) -> TensorSquares | None:
        """As of `Accumulator`: small tensors share a tile, and have no matrix over rows of their own."""
        if not self._follows or len(tile.strips) == 1:
            return None
        return TensorSquares({s.tensor: self._spans.squares_of_rows(tile.of(s)[1:]) for s in tile.strips})

    def merge(self, piece: TensorSquares) -> None:
        """As of `Accumulator`."""
        self.tensors.update(piece.squares)

    def take_tensor(self, tensor: int, gram: NDArray[Any]) -> None:
        """As of `GramListener`."""

    def take_increments(self, tensor: int, gram: Doubles) -> None:
        """As of `GramListener`."""
        # The matrix is changed once it has been taken.
        blocks = list(self._spans.blocks(gram))
        self._sought[tensor] = self._backlog.submit(self._spans.squares, blocks)

    def take_model(self, gram: Doubles, of_increments: Doubles) -> None:  # noqa: ARG002
        """As of `GramListener`."""
        self.total = self._spans.squares(self._spans.blocks(of_increments))

    def _finish(self) -> None:
        for tensor, future in self._sought.items():
            self.tensors[tensor] = future.result()
        self._sought = {}
        if len(self._context.strips) == 1 and self.tensors:
            (self.total,) = self.tensors.values()  # one tensor is the whole model

    def state(self) -> State:
        """T : (W, n) of each tensor that is whole here, by number: sigma_i^2, descending, zeros at the end"""
        self._finish()
        return {str(tensor): squares for tensor, squares in sorted(self.tensors.items())}

    def pieces(self, state: PartState) -> Iterator[TensorSquares]:
        """As of `Accumulator`."""
        for tensor in state.numbers():
            table = state.array(str(tensor), (self._spans.count, -1))
            if not np.isfinite(table).all() or (table < 0).any() or (np.diff(table, axis=1) > 0).any():
                raise ValueError(f"{SPECTRA}/{tensor}.npy is no table of spectra")
            yield TensorSquares({tensor: table})

    def result(self) -> SquaresOfWindows | None:
        """Itself; None without an exact spectrum over rows."""
        self._finish()
        return self if self._follows else None


class Spans:
    """The increments of each window, those of as many together."""

    def __init__(self, windows: NDArray[np.int64]) -> None:
        """windows : (W, 2) int64, first and last + 1 of the rows of each"""
        self.count = len(windows)
        # Increment t - 1 of the matrices lies between rows t - 1 and t.
        sizes = np.maximum(windows[:, 1] - windows[:, 0] - 1, 0)
        self._longest = int(sizes.max(initial=0))
        self._lots: list[tuple[NDArray[np.intp], NDArray[np.int64]]] = []
        rows = int(windows[:, 1].max(initial=0))  # no more are copied at a time
        for size in np.unique(sizes[sizes > 0]).tolist():
            numbers = np.flatnonzero(sizes == size)
            many = max(1, rows // size)
            for at in range(0, numbers.size, many):
                lot = numbers[at : at + many]
                self._lots.append((lot, windows[lot, :1] + np.arange(size)))

    def blocks(self, gram: Doubles) -> Iterator[Doubles]:
        """Copies of (windows of a lot, rows, rows) of a matrix (N - 1, N - 1)."""
        return (gram[at[:, :, None], at[:, None, :]] for _, at in self._lots)

    def squares(self, blocks: Iterable[Doubles]) -> WindowSquares:
        """Of what `blocks` gave."""
        table = np.zeros((self.count, self._longest))
        for (numbers, at), stack in zip(self._lots, blocks, strict=True):
            table[numbers, : at.shape[1]] = squared_singular_values(stack)
        return table

    def squares_of_rows(self, increments: NDArray[np.floating[Any]]) -> WindowSquares:
        """Of the increments (N - 1, width) of some columns."""
        table = np.zeros((self.count, min(self._longest, increments.shape[1])))
        for numbers, at in self._lots:
            rows = finite_doubles(increments[at])
            columns = rows.swapaxes(1, 2)
            grams = rows @ columns if rows.shape[1] <= rows.shape[2] else columns @ rows
            table[numbers, : grams.shape[1]] = squared_singular_values(grams)
        return table
