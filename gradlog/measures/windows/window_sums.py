"""Sums of each tensor over the rows of windows, gathered in one pass (a monoid)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import sum_columns
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape
from ...engine.state import PartState, State
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ...results.windows import Layout, window_rows
from ...statistics.step_bins import bins_of_rows
from ..path_lengths.path_lengths import add_up, check_complete, part_totals
from ..path_lengths.tensor_steps import BinnedSums
from . import SUMS

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class WindowSums(Measure):
    """Of each tensor all sums of rows, by the stretches between where windows begin and end.

    specs : of the predictors, in the order of the sums' columns; layout : of the windows
    """

    name = SUMS
    specs: tuple[str, ...]
    layout: Layout

    def kept_bytes(self, shape: PassShape) -> int:
        """As of `Measure`."""
        bins = stretches(window_rows(self.layout, shape.rows), shape.rows).size
        return 8 * len(shape.tensors) * bins * sum_columns(len(self.specs))

    def start(self, context: PassContext) -> SumsOfWindows:
        """As of `Measure`."""
        windows = window_rows(self.layout, context.rows)
        return SumsOfWindows(len(context.names), context.rows, windows, len(self.specs))


def stretches(windows: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """(n + 1,) int64: where windows begin or end, between 0 and `rows`."""
    return np.unique(np.concatenate([[0, rows], windows.reshape(-1)]))


class SumsOfWindows(Accumulator[BinnedSums]):
    """windows : (W, 2) int64, their rows; edges : of the stretches of rows that sums are kept for"""

    def __init__(self, tensors: int, rows: int, windows: NDArray[np.int64], predictors: int) -> None:
        self.windows = windows
        self.edges = stretches(windows, rows)
        self._sums = np.zeros((tensors, self.edges.size - 1, sum_columns(predictors)))

    def row_sums(self, tile: Tile) -> BinnedSums | None:
        """As of `Accumulator`."""
        start, stop = tile.start, tile.start + tile.rows
        if stop == start:
            return None
        first, starts = bins_of_rows(self.edges, start, stop)
        found = [
            (strip.tensor, sums if starts is None else np.add.reduceat(sums, starts, axis=0))
            for strip, sums in zip(tile.strips, tile.sums, strict=True)
        ]
        return BinnedSums(first, found)

    def merge(self, piece: BinnedSums) -> None:
        """As of `Accumulator`."""
        for tensor, sums in piece.sums:
            self._sums[tensor, piece.first : piece.first + sums.shape[0]] += sums

    def state(self) -> State:
        """A table (stretches, columns) of each tensor that has any gradients here, by its number."""
        there = np.flatnonzero(self._sums.any(axis=(1, 2)))
        return {str(tensor): self._sums[tensor] for tensor in there.tolist()}

    def pieces(self, state: PartState) -> Iterator[BinnedSums]:
        """As of `Accumulator`: what doesn't add up to the sums over all rows is refused."""
        totals = part_totals(state, self._sums.shape[0])
        held = state.numbers()
        check_complete(totals, held, "sums of windows")
        for tensor in held:
            found = state.array(str(tensor), self._sums.shape[1:])
            size = np.abs(found)
            if not np.isfinite(size).all() or not add_up(found.sum(axis=0), totals[tensor], size.sum(axis=0)):
                raise ValueError(f"{SUMS}/{tensor}.npy does not add up to totals.npy")
            yield BinnedSums(0, [(tensor, found)])

    def result(self) -> SumsOfWindows:
        """Itself."""
        return self

    def of(self, tensors: Sequence[int] | slice) -> Doubles:
        """(tensors, W, columns of `fused_pass`) float64, summed over the rows of each window."""
        first, last = np.searchsorted(self.edges, self.windows.T)
        chosen = self._sums[tensors]
        if np.array_equal(last[:-1], first[1:]) and (last - first == 1).all():
            return np.asarray(chosen[:, first])
        return np.stack([chosen[:, a:b].sum(axis=1) for a, b in zip(first, last, strict=True)], axis=1)
