"""Per-step sums of each tensor, gathered in one pass and kept by bins of rows (a monoid)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import ENERGY, PREDICTORS, PRODUCT, RESIDUAL
from ...results.result import TensorSteps
from ...statistics.step_bins import bin_edges


class TensorSeries:
    """Of K tensors: ||g_t||^2, and of each predictor ||g_t - m_t||^2 and <g_t, m_t>, over bins of rows.

    Memory grows with K times the bins, of which there are at most 1,025, however many rows.
    """

    def __init__(self, tensors: int, rows: int, predictors: Sequence[str]) -> None:
        self._edges = bin_edges(rows)
        self._specs = [spec for spec in predictors if spec != "zero"]
        at = [PREDICTORS + 3 * p for p, spec in enumerate(predictors) if spec != "zero"]
        offsets = [a + offset for offset in (RESIDUAL, PRODUCT) for a in at]
        self._columns = np.array([ENERGY, *offsets], dtype=np.intp)
        self._sums = np.zeros((tensors, self._edges.size - 1, self._columns.size))

    def update(self, tensor: int, start: int, sums: NDArray[np.float64]) -> None:
        """Add the sums (T, columns of `fused_pass`) of rows start .. start + T - 1 over a tile."""
        stop = start + sums.shape[0]
        if stop == start:
            return
        wanted = sums[:, self._columns]
        first = int(np.searchsorted(self._edges, start, side="right")) - 1
        last = int(np.searchsorted(self._edges, stop, side="left"))
        if last - first < stop - start:
            wanted = np.add.reduceat(wanted, np.maximum(self._edges[first:last] - start, 0), axis=0)
        self._sums[tensor, first:last] += wanted

    @property
    def sums(self) -> NDArray[np.float64]:
        """(tensors, bins, columns), to be added to: those over disjoint sets of parameters add up."""
        return self._sums

    def steps(self) -> TensorSteps:
        """What was gathered."""
        count = len(self._specs)
        return TensorSteps(
            edges=self._edges,
            energy=self._sums[:, :, 0].copy(),
            path_length={spec: self._sums[:, :, 1 + p].copy() for p, spec in enumerate(self._specs)},
            product={spec: self._sums[:, :, 1 + count + p].copy() for p, spec in enumerate(self._specs)},
        )
