"""Add the results of tiles up, in the order of the plan, whichever thread computed them and when."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...kernels.gram import squared_singular_values
from ..logs.log import Tensor
from ..measures.incremental.rowwise import RowwiseSpectra
from ..measures.path_lengths.path_length import PathLengthSeries, PathLengthTotals, nonfinite_rows
from ..measures.path_lengths.tensor_series import TensorSeries
from ..measures.search.band_work import BandWork
from ..measures.search.history_band import BandLayout
from ..measures.spectra.spectrum import ExactEigenvalues, ExactSpectrum, PartialSpectra, Spectrum
from ..predictors import HistoryBank
from .pass_result import NonfiniteRow, PassResult, TileResult
from .plan import Plan
from .ranges import ParameterRange, parts_of_tensors

if TYPE_CHECKING:
    from ..measures.search.searching import SearchWork
    from ..measures.sketch.sketching import SketchSpectra
    from .side_work import SideWork


class TileMerger:
    """Adds tile results up, in the order of the plan; tensors' spectra start as soon as they are complete."""

    def __init__(
        self,
        tensors: Sequence[Tensor],
        plan: Plan,
        bank: HistoryBank,
        rows: int,
        epsilons: Sequence[float],
        pool: ThreadPoolExecutor,
        part_of: Sequence[ParameterRange] | None,
        sketches: SketchSpectra | None,
    ) -> None:
        self._sketches = sketches
        specs = [predictor.spec for predictor in bank.predictors]
        self._plan = plan
        self._epsilons = epsilons
        self._pool = pool
        self._series = PathLengthSeries(rows, specs)
        self._totals = [PathLengthTotals(specs) for _ in tensors]
        self._tensor_series: TensorSeries | None = None
        self._search: SearchWork | None = None
        self._band: BandWork | None = None
        self.side_work: SideWork | None = None
        self.nonfinite: list[NonfiniteRow] = []
        self._squares: dict[int, Future[NDArray[np.float64]]] = {}
        self._pending: list[Future[NDArray[np.float64]]] = []
        self._open: dict[int, ExactSpectrum] = {}
        self._missing = parts_of_tensors(part_of or plan.ranges)
        self._columns = [tensor.parameters for tensor in tensors]
        self._increments = max(0, rows - 1)
        size = sum(self._columns) if plan.by_columns else self._increments
        # A single tensor's spectrum is the total's: one matrix serves both.
        self._alone = len(self._missing) == 1 and not plan.by_columns
        self._total = ExactSpectrum(0 if self._alone or plan.method != "exact" else size)

    def keep_tensor_steps(self, rows: int) -> None:
        """Gather per-step sums of each tensor too."""
        self._tensor_series = TensorSeries(len(self._totals), rows, self._series.predictors)

    def search(self, names: Sequence[str]) -> None:
        """Search for the best predictors too: Gram matrices hold the first gradient in front."""
        from ..measures.search.searching import SearchWork  # deferred: few passes search

        self._search = SearchWork(names, self._pool, self._plan.workers, alone=self._alone)
        self._total = ExactSpectrum(0 if self._alone else self._increments + 1)

    def search_band(self, names: Sequence[str], layout: BandLayout) -> None:
        """Search for the best predictors in the band of Gram matrices that are not formed."""
        self._band = BandWork(names, layout, self._pool, alone=len(self._missing) == 1)

    def merge(self, result: TileResult) -> None:
        """Add one tile."""
        for part, sums in zip(result.parts, result.sums, strict=True):
            self._series.update(result.start, sums)
            self._totals[part.tensor].update(sums, part.group)
            if self._tensor_series is not None:
                self._tensor_series.update(part.tensor, result.start, sums)
            bad = nonfinite_rows(sums)
            for row in np.flatnonzero(bad):
                self.nonfinite.append(NonfiniteRow(part.tensor, result.start + int(row), int(bad[row])))
        if self._sketches is not None and not self.nonfinite:
            self._sketches.merge(result.range_index, result.small_grams)
        if self._band is not None and not self.nonfinite and result.lagged:
            self._band.add(result)
        if self._plan.method != "exact" or self.nonfinite or not result.sums[0].size:
            return
        if self._plan.by_columns:
            self._total.update(result.columns_gram[0])
            return
        assert result.rows_gram is not None
        if len(result.parts) > 1:
            self._total.update(result.rows_gram)
            for part, gram in zip(result.parts, result.columns_gram, strict=True):
                self._start(part.tensor, gram)
            if self._search is not None:
                for part, sums, over in zip(result.parts, result.sums, result.part_grams, strict=True):
                    self._search.start(part.tensor, over, sums)
            return
        tensor = result.parts[0].tensor
        spectrum = self._open.setdefault(tensor, ExactSpectrum(result.rows_gram.shape[0]))
        spectrum.update(result.rows_gram)
        if self._search is not None:
            self._search.add(tensor, result.sums[0])
        self._missing[tensor] -= 1
        if not self._missing[tensor]:
            del self._open[tensor]
            if not self._alone:
                self._total.merge(spectrum)
            elif self.side_work is not None:
                self.side_work.take_gram(self._of_increments(spectrum.gram))
            self._start(tensor, self._of_increments(spectrum.gram))
            if self._search is not None:
                self._search.start(tensor, spectrum.gram)

    def _of_increments(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        return gram if self._search is None else gram[1:, 1:]

    def _start(self, tensor: int, gram: NDArray[np.float64]) -> None:
        """Find the eigenvalues in the pool; no more matrices wait there than the plan counted."""
        self._pending = [future for future in self._pending if not future.done()]
        if len(self._pending) >= self._plan.workers:
            self._pending[0].result()
        self._squares[tensor] = self._pool.submit(squared_singular_values, gram)
        self._pending.append(self._squares[tensor])

    def result(self, rowwise: RowwiseSpectra | None = None) -> PassResult:
        """All that was gathered; spectra are left out where entries were not finite."""
        gathered = PassResult(self._series, self._totals, None, [None] * len(self._totals), self.nonfinite)
        gathered.tensor_series = self._tensor_series
        if self._band is not None and not self.nonfinite:
            gathered.search = self._band.result(self._series.sums)
        if self._plan.method == "none" or self.nonfinite:
            return gathered
        if self._sketches is not None:
            spectrum, each = self._sketches.result()
            return replace(gathered, spectrum=spectrum, spectra=each)
        if rowwise is not None:
            return replace(gathered, spectrum=rowwise.total, spectra=self._rowwise_spectra(rowwise))
        if self._plan.by_columns:
            self._start_diagonal_blocks()
        spectra: list[Spectrum | None] = [
            self._finished(self._squares[tensor].result() if tensor in self._squares else np.zeros(0), width)
            for tensor, width in enumerate(self._columns)
        ]
        if self._alone:
            (only,) = self._squares.values()
            total = only.result()
        else:
            of_increments = self._of_increments(self._total.gram)
            if self.side_work is not None and not self._plan.by_columns:
                self.side_work.take_gram(of_increments)
            total = squared_singular_values(of_increments)
        if self._search is not None:
            gathered.search = self._search.result(self._series.sums, self._total.gram)
        return replace(gathered, spectrum=self._finished(total, sum(self._columns)), spectra=spectra)

    def partial_result(self) -> PassResult:
        """All that was gathered of a part: spectra of what lies whole in it, Gram matrices of the rest."""
        gathered = PassResult(self._series, self._totals, None, [None] * len(self._totals), self.nonfinite)
        gathered.tensor_series = self._tensor_series
        if self._plan.method == "none" or self.nonfinite:
            return gathered
        squares = None
        if self._plan.by_columns and self._plan.ranges:
            self._start_diagonal_blocks()
            squares = self._total.squared_singular_values()
        whole = {tensor: future.result() for tensor, future in self._squares.items()}
        keeps_total = bool(whole) and not self._alone and not self._plan.by_columns
        partial = PartialSpectra(
            squares=whole,
            total_squares=squares,
            grams={tensor: spectrum.gram for tensor, spectrum in self._open.items()},
            total=self._total.gram if keeps_total else None,
        )
        return replace(gathered, partial=partial)

    def _start_diagonal_blocks(self) -> None:
        stop = 0
        for tensor, width in enumerate(self._columns):
            stop += width
            self._start(tensor, self._total.gram[stop - width : stop, stop - width : stop])

    def _rowwise_spectra(self, rowwise: RowwiseSpectra) -> list[Spectrum | None]:
        spectra: list[Spectrum | None] = []
        for tensor, width in enumerate(self._columns):
            if tensor in rowwise.tensors:
                spectra.append(rowwise.tensors[tensor])
            else:
                narrow = rowwise.narrow.get(tensor, ExactSpectrum(0))
                spectra.append(self._finished(narrow.squared_singular_values(), width))
        return spectra

    def _finished(self, squares: NDArray[np.float64], parameters: int) -> ExactEigenvalues:
        # The Gram matrix of the larger side has zeros behind the rank that the matrix can have.
        return ExactEigenvalues(squares[: min(self._increments, parameters)], self._epsilons)
