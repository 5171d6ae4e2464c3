"""The band of the Gram matrix while the pass goes on: of tiles, added up in the order of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.lagged_products import LaggedProducts
from ....kernels.pass_layout import ENERGY, INCREMENT, LAG_PRODUCT
from ...engine.pass_result import TileResult
from ...engine.ranges import Part
from ...results.search_result import PredictorSearch, ScopeSearch
from .band_search import search_band, steps_of
from .candidates import CONFIDENCE
from .held_out import BLOCKS
from .history_band import MODEL_BINS, STEPS, TENSOR_BINS, BandLayout, BinnedBand

Doubles = NDArray[np.float64]

_COLUMNS = [ENERGY, LAG_PRODUCT, INCREMENT]


class TileBands:
    """What each tile carries from one block of rows to the next."""

    def __init__(self, layout: BandLayout) -> None:
        self._layout = layout
        self._decays = np.array(layout.followed)
        self._carried: dict[tuple[int, int], list[LaggedProducts]] = {}

    def take(
        self,
        tile: tuple[int, int],
        parts: Sequence[Part],
        increments: NDArray[np.floating[Any]],
        beginning: NDArray[np.floating[Any]] | None,
        sums: Sequence[Doubles],
        *,
        last: bool,
        single: bool,
    ) -> tuple[Doubles, ...]:
        """The lagged products of each part in a block.

        increments : (T, columns of the block); beginning : (1, columns of the tile), g_0, with the first rows
        sums : of each part, as of `fused_pass`; single : as of `LaggedProducts`
        """
        carried = self._carried.pop(tile, None)
        if carried is None:
            carried = [LaggedProducts(self._layout.width, self._decays) for _ in parts]
        if not last:
            self._carried[tile] = carried
        left = parts[0].first
        return tuple(
            lagged.take(
                increments[:, part.first : part.last],
                None if beginning is None else beginning[:, part.first - left : part.last - left],
                of_part[:, INCREMENT],
                single,
            )
            for lagged, part, of_part in zip(carried, parts, sums, strict=True)
        )


class BandWork:
    """Adds the products of tiles up, and searches when all are in."""

    def __init__(
        self, names: Sequence[str], layout: BandLayout, pool: ThreadPoolExecutor, *, alone: bool
    ) -> None:
        """alone : one tensor is the whole model, whose sums then serve both"""
        self._names = names
        self._layout = layout
        self._pool = pool
        self._alone = alone
        self._model = np.zeros((layout.rows, STEPS + layout.columns))
        self._tensors: dict[int, BinnedBand] = {}
        self._block: dict[int, Doubles] = {}
        self._place = (0, 0)

    def add(self, result: TileResult) -> None:
        """Add one tile; those of a block follow one another, and blocks of the same columns in time."""
        place = result.range_index, result.start
        if place != self._place:
            self._end_block()
            if place[0] != self._place[0]:
                self._end_range()
            self._place = place
        for part, sums, lagged in zip(result.parts, result.sums, result.lagged, strict=True):
            self._model[result.start : result.start + lagged.shape[0], STEPS:] += lagged
            if part.tensor not in self._tensors:
                self._tensors[part.tensor] = BinnedBand(self._layout, TENSOR_BINS)
            if self._alone:
                continue
            rows = np.concatenate([sums[:, _COLUMNS], lagged], axis=1)
            if part.tensor in self._block:
                self._block[part.tensor] += rows
            else:
                self._block[part.tensor] = rows

    def _end_block(self) -> None:
        for tensor, rows in self._block.items():
            self._tensors[tensor].take(rows)
        self._block = {}

    def _end_range(self) -> None:
        for band in self._tensors.values():
            band.end()

    def result(self, sums: Doubles) -> PredictorSearch:
        """All that was found. sums : (N, columns of `fused_pass`) of the whole model"""
        self._end_block()
        self._end_range()
        layout = self._layout
        rows = self._model
        rows[:, :STEPS] = sums[:, _COLUMNS]
        model = BinnedBand(layout, MODEL_BINS)
        model.take(rows)
        model.end()
        total = search_band(None, layout, model.sums)

        def search(tensor: int) -> ScopeSearch:
            name = self._names[tensor]
            if tensor not in self._tensors:
                return ScopeSearch(name, (), "no parameters")
            return (
                replace(total, name=name)
                if self._alone
                else search_band(name, layout, self._tensors[tensor].sums)
            )

        tensors = tuple(self._pool.map(search, range(len(self._names))))
        total = replace(total, steps=steps_of(layout, rows, total))
        return PredictorSearch("band", CONFIDENCE, BLOCKS, total, tensors, layout.width)
