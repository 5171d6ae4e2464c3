"""Searches for the best predictors of tensors while the pass goes on, and of the whole model at its end.

In Gram matrices over rows, which the exact spectrum forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import ENERGY, INCREMENT, LAG_PRODUCT
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape
from ...engine.tile import Tile
from ...results.search_result import PredictorSearch, ScopeSearch
from ..path_lengths.path_lengths import NAME as PATH_LENGTHS
from ..path_lengths.path_lengths import PathLengthSums
from ..spectra.exact_spectrum import RowGramSums
from ..spectra.spectrum import NAME as SPECTRUM
from . import NAME
from .candidates import CONFIDENCE
from .held_out import BLOCKS
from .history_gram import StepProducts
from .predictor_search import GramScope, search_gram, search_grams

Doubles = NDArray[np.float64]

SEARCHED_TOGETHER = 1 << 21
"""Bytes of small Gram matrices that are searched together."""
STEP_SUMS = [ENERGY, LAG_PRODUCT, INCREMENT]
"""Columns of `fused_pass` that a search takes."""


@dataclass(frozen=True)
class GramSearch(Measure):
    """Follows an exact spectrum over rows, which is asked for with `searched`."""

    name = NAME

    def kept_bytes(self, shape: PassShape) -> int:
        """Of lots of small Gram matrices that wait, and of what searches in work make of them."""
        matrix = 8 * shape.rows**2
        lot = min(SEARCHED_TOGETHER, len(shape.tensors) * matrix)
        return (6 * shape.workers + 2) * lot if matrix < SEARCHED_TOGETHER else 0

    def start(self, context: PassContext) -> GramSearches:
        """As of `Measure`."""
        return GramSearches(context)


class GramSearches(Accumulator[Sequence[tuple[int, Doubles]]]):
    """Gathers tensors' per-step products, and searches in the pool as soon as Gram matrices are complete.

    Small ones are searched together. No more lots of them wait there than there are workers.
    """

    of_every_tensor = True

    def __init__(self, context: PassContext) -> None:
        self._context = context
        self._alone = len(context.strips) == 1  # one tensor is the whole model
        self._open: dict[int, Doubles] = {}
        self._lot: list[tuple[int, GramScope]] = []
        self._pending: list[tuple[list[int], Future[list[ScopeSearch]]]] = []
        self._model: Doubles | None = None
        spectrum, sums = context.started[SPECTRUM], context.started[PATH_LENGTHS]
        assert isinstance(spectrum, RowGramSums)
        assert isinstance(sums, PathLengthSums)
        spectrum.listeners.append(self)
        self._sums = sums

    def row_sums(self, tile: Tile) -> Sequence[tuple[int, Doubles]]:
        """As of `Accumulator`: (T, 3) of each strip."""
        return [
            (strip.tensor, sums[:, STEP_SUMS]) for strip, sums in zip(tile.strips, tile.sums, strict=True)
        ]

    def merge(self, piece: Sequence[tuple[int, Doubles]]) -> None:
        """As of `Accumulator`: a block holds all rows."""
        for tensor, sums in piece:
            if tensor in self._open:
                self._open[tensor] += sums
            else:
                self._open[tensor] = sums

    def take_tensor(self, tensor: int, gram: NDArray[Any]) -> None:
        """As of `GramListener`: a tensor's matrix and sums are complete."""
        steps = _products(self._open.pop(tensor))
        self._lot.append((tensor, GramScope(self._context.names[tensor], gram, steps)))
        if len(self._lot) * 8 * gram.size >= SEARCHED_TOGETHER:
            self._search_lot()

    def take_increments(self, tensor: int, gram: Doubles) -> None:
        """As of `GramListener`."""

    def take_model(self, gram: Doubles, of_increments: Doubles) -> None:  # noqa: ARG002
        """As of `GramListener`."""
        self._model = gram

    def _search_lot(self) -> None:
        unfinished = [future for _, future in self._pending if not future.done()]
        if len(unfinished) >= self._context.workers:
            unfinished[0].result()
        if self._lot:
            future = self._context.pool.submit(
                search_grams, [scope for _, scope in self._lot], keep_steps=self._alone
            )
            self._pending.append(([tensor for tensor, _ in self._lot], future))
        self._lot = []

    def result(self) -> PredictorSearch:
        """All that was found."""
        self._search_lot()
        total = None
        if not self._alone:
            assert self._model is not None
            steps = _products(self._sums.series.sums[:, STEP_SUMS])
            total = search_gram(None, self._model, steps, keep_steps=True)
        tensors = [ScopeSearch(name, (), "no parameters") for name in self._context.names]
        for lot, future in self._pending:
            for tensor, found in zip(lot, future.result(), strict=True):
                tensors[tensor] = found
        if total is None:
            ((only,), _) = self._pending[0]
            total = replace(tensors[only], name=None)
            tensors[only] = replace(tensors[only], steps={})
        return PredictorSearch("gram", CONFIDENCE, BLOCKS, total, tuple(tensors))


def _products(sums: Doubles) -> StepProducts:
    energy, lag_product, increment = sums.T
    return StepProducts(energy.copy(), lag_product.copy(), increment.copy())
