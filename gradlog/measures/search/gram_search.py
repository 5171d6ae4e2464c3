"""Searches for the best predictors of tensors while the pass goes on, and of the whole model at its end.

In Gram matrices over rows, which the exact spectrum forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import ENERGY, INCREMENT, LAG_PRODUCT
from ...engine.backlog import Backlog
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape
from ...engine.state import PartState, State
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ...results.search_result import PredictorSearch, ScopeSearch
from ..path_lengths.path_lengths import NAME as PATH_LENGTHS
from ..path_lengths.path_lengths import PathLengthSums, add_up, part_totals, rows_follow
from ..spectra.exact_spectrum import RowGramSums
from ..spectra.spectrum import NAME as SPECTRUM
from . import NAME
from .candidates import CONFIDENCE, NO_PARAMETERS
from .held_out import BLOCKS
from .history_gram import StepProducts
from .predictor_search import GramScope, search_gram, search_grams
from .search_table import COLUMNS, search_of, steps_table, table_of, with_steps

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


@dataclass(frozen=True)
class TensorProducts:
    """What a search takes of tensors beside their Gram matrices.

    products : (tensor, strips that they are of, (N, 3) of each row), whose sums over all strips are wanted
    found : of tensors that were searched already, by number
    """

    products: Sequence[tuple[int, int, Doubles]] = ()
    found: Mapping[int, ScopeSearch] = field(default_factory=dict)


class GramSearches(Accumulator[TensorProducts]):
    """Gathers tensors' per-step products, and searches in the pool as soon as Gram matrices are complete.

    Small ones are searched together. No more lots of them wait there than there are workers.
    """

    of_every_tensor = True

    def __init__(self, context: PassContext) -> None:
        self._context = context
        self._alone = len(context.strips) == 1  # one tensor is the whole model
        self._open: dict[int, Doubles] = {}
        self._missing = dict(context.strips)
        self._grams: dict[int, NDArray[Any]] = {}
        self._lot: list[tuple[int, GramScope]] = []
        self._backlog = Backlog(context.pool, context.workers)
        self._pending: list[tuple[list[int], Future[list[ScopeSearch]]]] = []
        self._found: dict[int, ScopeSearch] = {}
        self._model: Doubles | None = None
        spectrum, sums = context.started[SPECTRUM], context.started[PATH_LENGTHS]
        assert isinstance(spectrum, RowGramSums)
        assert isinstance(sums, PathLengthSums)
        spectrum.listeners.append(self)
        self._sums = sums

    def row_sums(self, tile: Tile) -> TensorProducts:
        """As of `Accumulator`: a block holds all rows."""
        return TensorProducts(
            [
                (strip.tensor, 1, sums[:, STEP_SUMS])
                for strip, sums in zip(tile.strips, tile.sums, strict=True)
            ]
        )

    def merge(self, piece: TensorProducts) -> None:
        """As of `Accumulator`."""
        self._found.update(piece.found)
        for tensor, strips, sums in piece.products:
            if tensor in self._open:
                self._open[tensor] += sums
            else:
                self._open[tensor] = sums
            self._missing[tensor] -= strips
            self._search(tensor)

    def take_tensor(self, tensor: int, gram: NDArray[Any]) -> None:
        """As of `GramListener`: of parts, the matrix may be whole before the products are."""
        self._grams[tensor] = gram
        self._search(tensor)

    def _search(self, tensor: int) -> None:
        """Search a tensor whose matrix and products are whole."""
        if self._missing[tensor] or tensor not in self._grams:
            return
        gram, steps = self._grams.pop(tensor), _products(self._open.pop(tensor))
        self._lot.append((tensor, GramScope(self._context.names[tensor], gram, steps)))
        if len(self._lot) * 8 * gram.size >= SEARCHED_TOGETHER:
            self._search_lot()

    def take_increments(self, tensor: int, gram: Doubles) -> None:
        """As of `GramListener`."""

    def take_model(self, gram: Doubles, of_increments: Doubles) -> None:  # noqa: ARG002
        """As of `GramListener`."""
        self._model = gram

    def _search_lot(self) -> None:
        if self._lot:
            future = self._backlog.submit(
                search_grams, [scope for _, scope in self._lot], keep_steps=self._alone
            )
            self._pending.append(([tensor for tensor, _ in self._lot], future))
        self._lot = []

    def _finish(self) -> None:
        self._search_lot()
        for lot, future in self._pending:
            self._found.update(zip(lot, future.result(), strict=True))
        self._pending = []

    def state(self) -> State:
        """found/T : what was found of tensors that are whole here, as of `search_table`

        products/T : (N, 3) of others; steps/T : (found, N) residuals of the only tensor, where it is whole
        """
        self._finish()
        found = sorted(self._found.items())
        arrays = {f"found/{tensor}": table_of(search) for tensor, search in found}
        arrays |= {f"steps/{tensor}": steps_table(search) for tensor, search in found if search.steps}
        return arrays | {f"products/{tensor}": self._open[tensor] for tensor in sorted(self._open)}

    def pieces(self, state: PartState) -> Iterator[TensorProducts]:
        """As of `Accumulator`: of the tensors that the part has spectra of."""
        rows, names = self._context.rows, self._context.names
        totals, spectra = part_totals(state, len(names)), state.of(SPECTRUM)
        whole, cut = state.numbers("found"), state.numbers("products")
        if (whole, cut) != (spectra.numbers("squares"), spectra.numbers("gram")):
            raise ValueError("it searched other tensors than it has spectra of")
        for tensor in cut:
            sums = state.array(f"products/{tensor}", (rows, len(STEP_SUMS)))
            size = np.abs(sums).sum(axis=0)
            known = bool(np.isfinite(size).all()) and rows_follow(*sums.T)
            if not known or not add_up(sums.sum(axis=0), totals[tensor, STEP_SUMS], size):
                raise ValueError(f"{NAME}/products/{tensor}.npy does not add up to totals.npy")
            yield TensorProducts([(tensor, state.strips(tensor), sums.copy())])
        for tensor in whole:
            table = state.array(f"found/{tensor}", (-1, -1))
            if table.shape[1] < COLUMNS:
                raise ValueError(f"{NAME}/found/{tensor} has shape {table.shape}")
            found = search_of(names[tensor], table, float(totals[tensor, ENERGY]), rows)
            if self._alone and found.found:
                found = with_steps(found, state.array(f"steps/{tensor}", (len(found.found), rows)))
            yield TensorProducts(found={tensor: found})

    def result(self) -> PredictorSearch:
        """All that was found."""
        self._finish()
        none = (ScopeSearch(name, (), NO_PARAMETERS) for name in self._context.names)
        tensors = [self._found.get(tensor, search) for tensor, search in enumerate(none)]
        if self._alone:
            (only,) = self._found
            total = replace(tensors[only], name=None)
            tensors[only] = replace(tensors[only], steps={})
        else:
            assert self._model is not None
            steps = _products(self._sums.series.sums[:, STEP_SUMS])
            total = search_gram(None, self._model, steps, keep_steps=True)
        return PredictorSearch("gram", CONFIDENCE, BLOCKS, total, tuple(tensors))


def _products(sums: Doubles) -> StepProducts:
    energy, lag_product, increment = sums.T
    return StepProducts(energy.copy(), lag_product.copy(), increment.copy())
