"""Searches for the best predictors of tensors while the pass goes on, and of the whole model at its end."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import ENERGY, INCREMENT, LAG_PRODUCT
from ...engine.request import SEARCHED_TOGETHER
from ...results.search_result import PredictorSearch, ScopeSearch
from .candidates import CONFIDENCE
from .held_out import BLOCKS
from .history_gram import StepProducts
from .predictor_search import GramScope, search_gram, search_grams


class SearchWork:
    """Gathers tensors' per-step products, and searches in the pool as soon as Gram matrices are complete.

    Small ones are searched together. No more lots of them wait there than there are workers.
    alone : one tensor is the whole model
    """

    def __init__(self, names: Sequence[str], pool: ThreadPoolExecutor, workers: int, *, alone: bool) -> None:
        self._names = names
        self._alone = alone
        self._pool = pool
        self._workers = workers
        self._open: dict[int, NDArray[np.float64]] = {}
        self._lot: list[tuple[int, GramScope]] = []
        self._pending: list[tuple[list[int], Future[list[ScopeSearch]]]] = []

    def add(self, tensor: int, sums: NDArray[np.float64]) -> None:
        """Add the sums (N, columns of `fused_pass`) over a tile of one tensor."""
        if tensor in self._open:
            self._open[tensor] += sums[:, _COLUMNS]
        else:
            self._open[tensor] = sums[:, _COLUMNS]

    def start(self, tensor: int, gram: NDArray[Any], sums: NDArray[np.float64] | None = None) -> None:
        """Search a tensor whose Gram matrix is complete. sums : of all of it; None: those that were added"""
        steps = _products(self._open.pop(tensor) if sums is None else sums[:, _COLUMNS])
        self._lot.append((tensor, GramScope(self._names[tensor], gram, steps)))
        if len(self._lot) * 8 * gram.size >= SEARCHED_TOGETHER:
            self._search_lot()

    def _search_lot(self) -> None:
        unfinished = [future for _, future in self._pending if not future.done()]
        if len(unfinished) >= self._workers:
            unfinished[0].result()
        if self._lot:
            future = self._pool.submit(
                search_grams, [scope for _, scope in self._lot], keep_steps=self._alone
            )
            self._pending.append(([tensor for tensor, _ in self._lot], future))
        self._lot = []

    def result(self, sums: NDArray[np.float64], gram: NDArray[np.float64]) -> PredictorSearch:
        """All that was found. sums, gram : of the whole model; no matrix where one tensor is all."""
        self._search_lot()
        total = None
        if not self._alone:
            total = search_gram(None, gram, _products(sums[:, _COLUMNS]), keep_steps=True)
        tensors = [ScopeSearch(name, (), "no parameters") for name in self._names]
        for lot, future in self._pending:
            for tensor, found in zip(lot, future.result(), strict=True):
                tensors[tensor] = found
        if total is None:
            ((only,), _) = self._pending[0]
            total = replace(tensors[only], name=None)
            tensors[only] = replace(tensors[only], steps={})
        return PredictorSearch("gram", CONFIDENCE, BLOCKS, total, tuple(tensors))


_COLUMNS = [ENERGY, LAG_PRODUCT, INCREMENT]


def _products(sums: NDArray[np.float64]) -> StepProducts:
    energy, lag_product, increment = sums.T
    return StepProducts(energy.copy(), lag_product.copy(), increment.copy())
