"""Per-step sums of each tensor, gathered in one pass and kept by bins of rows (a monoid)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import ENERGY, PREDICTORS, PRODUCT, RESIDUAL
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape
from ...engine.state import PartState, State
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ...results.result import TensorSteps
from ...statistics.step_bins import bin_edges, bins_of_rows, tensor_series_bytes
from .path_lengths import NAME as PATH_LENGTHS
from .path_lengths import add_up, check_complete, part_totals

Doubles = NDArray[np.float64]

NAME = "tensor_steps"


@dataclass(frozen=True)
class StepsOfTensors(Measure):
    """||g_t||^2 of each tensor, and of each predictor ||g_t - m_t||^2 and <g_t, m_t>. specs : of them"""

    name = NAME
    specs: tuple[str, ...]

    def kept_bytes(self, shape: PassShape) -> int:
        """As of `Measure`."""
        return tensor_series_bytes(len(shape.tensors), shape.rows, len(self.specs))

    def start(self, context: PassContext) -> TensorSeries:
        """As of `Measure`."""
        return TensorSeries(len(context.names), context.rows, self.specs)


@dataclass(frozen=True)
class BinnedSums:
    """Of each tensor (bins, columns) float64, to be added to bins first, first + 1, ..."""

    first: int
    sums: Sequence[tuple[int, Doubles]]


class TensorSeries(Accumulator[BinnedSums]):
    """Memory grows with the number of tensors times the bins, of which there are at most 1,025."""

    def __init__(self, tensors: int, rows: int, specs: Sequence[str]) -> None:
        self._edges = bin_edges(rows)
        self._specs = [spec for spec in specs if spec != "zero"]
        at = [PREDICTORS + 3 * p for p, spec in enumerate(specs) if spec != "zero"]
        offsets = [a + offset for offset in (RESIDUAL, PRODUCT) for a in at]
        self._columns = np.array([ENERGY, *offsets], dtype=np.intp)
        self._sums = np.zeros((tensors, self._edges.size - 1, self._columns.size))

    def row_sums(self, tile: Tile) -> BinnedSums | None:
        """As of `Accumulator`."""
        start, stop = tile.start, tile.start + tile.rows
        if stop == start:
            return None
        first, starts = bins_of_rows(self._edges, start, stop)
        found = []
        for strip, sums in zip(tile.strips, tile.sums, strict=True):
            wanted = sums[:, self._columns]
            if starts is not None:
                wanted = np.add.reduceat(wanted, starts, axis=0)
            found.append((strip.tensor, wanted))
        return BinnedSums(first, found)

    def merge(self, piece: BinnedSums) -> None:
        """As of `Accumulator`."""
        for tensor, sums in piece.sums:
            self._sums[tensor, piece.first : piece.first + sums.shape[0]] += sums

    def state(self) -> State:
        """A table (bins, columns) of each tensor that has any gradients here, by its number."""
        there = np.flatnonzero(self._sums.any(axis=(1, 2)))
        return {str(tensor): self._sums[tensor] for tensor in there.tolist()}

    def pieces(self, state: PartState) -> Iterator[BinnedSums]:
        """As of `Accumulator`: what doesn't add up to sums over rows, or over tensors, is refused."""
        totals = part_totals(state, self._sums.shape[0])
        series = state.of(PATH_LENGTHS).array("series", (-1, -1))
        held = state.numbers()
        check_complete(totals, held, "sums by step")
        of_rows = np.add.reduceat(series[:, self._columns], self._edges[:-1], axis=0)
        every, scale = np.zeros_like(of_rows), np.zeros_like(of_rows)
        for tensor in held:
            found = state.array(str(tensor), of_rows.shape)
            size = np.abs(found)
            if not np.isfinite(size).all() or not add_up(
                found.sum(axis=0), totals[tensor, self._columns], size.sum(axis=0)
            ):
                raise ValueError(f"tensor_steps/{tensor}.npy does not add up to totals.npy")
            yield BinnedSums(0, [(tensor, found)])
            every += found
            scale += size
        if not add_up(every, of_rows, scale):
            raise ValueError("its sums of tensors by step don't add up to series.npy")

    def result(self) -> TensorSteps:
        """What was gathered."""
        count = len(self._specs)
        return TensorSteps(
            edges=self._edges,
            energy=self._sums[:, :, 0].copy(),
            path_length={spec: self._sums[:, :, 1 + p].copy() for p, spec in enumerate(self._specs)},
            product={spec: self._sums[:, :, 1 + count + p].copy() for p, spec in enumerate(self._specs)},
        )
