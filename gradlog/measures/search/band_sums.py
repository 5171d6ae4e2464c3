"""The band of the Gram matrix while the pass goes on: of tiles, added up in the order of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ....kernels.lagged_products import LaggedProducts
from ....kernels.pass_layout import INCREMENT
from ...engine.block import Block
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape
from ...engine.tile import Tile
from ...results.search_result import PredictorSearch, ScopeSearch
from ..path_lengths.path_lengths import NAME as PATH_LENGTHS
from ..path_lengths.path_lengths import PathLengthSums
from ..spectra.exact_spectrum import is_large
from . import NAME
from .band_search import search_band, steps_of
from .candidates import CONFIDENCE
from .gram_search import STEP_SUMS
from .held_out import BLOCKS
from .history_band import MODEL_BINS, STEPS, TENSOR_BINS, BandLayout, BinnedBand

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class BandSearch(Measure):
    """Searches predictors where inner products of all pairs of rows are not formed: from those nearby."""

    name = NAME
    narrow_tiles = True
    layout: BandLayout

    def kept_bytes(self, shape: PassShape) -> int:
        """As of `Measure`."""
        return self.layout.kept_bytes(len(shape.tensors), shape.workers)

    def column_bytes(self, shape: PassShape) -> int:
        """As of `Measure`."""
        entry = max((tensor.compute_dtype.itemsize for tensor in shape.tensors), default=4)
        return self.layout.column_bytes(entry)

    def start(self, context: PassContext) -> BandSums:
        """As of `Measure`."""
        return BandSums(replace(self.layout, rows=context.rows), context)


@dataclass(frozen=True)
class LaggedRows:
    """Of rows start, start + 1, ...: of each strip, lagged products (T, columns) and STEPS sums (T, 3)."""

    start: int
    strips: Sequence[tuple[int, Doubles, Doubles]]


class BandSums(Accumulator[LaggedRows]):
    """Adds the products of tiles up, and searches when all are in."""

    wants_first = True

    def __init__(self, layout: BandLayout, context: PassContext) -> None:
        self._context = context
        self._layout = layout
        self._decays = np.array(layout.followed)
        self._carried: dict[tuple[int, int], list[LaggedProducts]] = {}
        self._alone = len(context.strips) == 1  # one tensor is the whole model, whose sums then serve both
        self._model = np.zeros((layout.rows, STEPS + layout.columns))
        self._tensors: dict[int, BinnedBand] = {}
        self._block: dict[int, Doubles] = {}
        sums = context.started[PATH_LENGTHS]
        assert isinstance(sums, PathLengthSums)
        self._sums = sums

    def increments(self, tile: Tile) -> LaggedRows:
        """As of `Accumulator`."""
        carried = self._carried.pop(tile.key, None)
        if carried is None:
            carried = [LaggedProducts(self._layout.width, self._decays) for _ in tile.strips]
        if not tile.block.last:
            self._carried[tile.key] = carried
        first, single, left = tile.first_gradients, is_large(tile, self._context), tile.first
        found = []
        for lagged, strip, sums in zip(carried, tile.strips, tile.sums, strict=True):
            beginning = None if first is None else first[:, strip.first - left : strip.last - left]
            products = lagged.take(tile.of(strip), beginning, sums[:, INCREMENT], single)
            found.append((strip.tensor, products, sums[:, STEP_SUMS]))
        return LaggedRows(tile.start, found)

    def merge(self, piece: LaggedRows) -> None:
        """As of `Accumulator`: blocks of the same columns follow one another in time."""
        for tensor, lagged, sums in piece.strips:
            self._model[piece.start : piece.start + lagged.shape[0], STEPS:] += lagged
            if tensor not in self._tensors:
                self._tensors[tensor] = BinnedBand(self._layout, TENSOR_BINS)
            if self._alone:
                continue
            rows = np.concatenate([sums, lagged], axis=1)
            if tensor in self._block:
                self._block[tensor] += rows
            else:
                self._block[tensor] = rows

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:  # noqa: ARG002
        """As of `Accumulator`."""
        for tensor, rows in self._block.items():
            self._tensors[tensor].take(rows)
        self._block = {}
        if block.last:
            for tensor in {segment.tensor for segment in block.range.segments} & self._tensors.keys():
                self._tensors[tensor].end()

    def result(self) -> PredictorSearch:
        """All that was found."""
        layout = self._layout
        rows = self._model
        rows[:, :STEPS] = self._sums.series.sums[:, STEP_SUMS]
        model = BinnedBand(layout, MODEL_BINS)
        model.take(rows)
        model.end()
        total = search_band(None, layout, model.sums)
        names = self._context.names

        def search(tensor: int) -> ScopeSearch:
            name = names[tensor]
            if tensor not in self._tensors:
                return ScopeSearch(name, (), "no parameters")
            if self._alone:
                return replace(total, name=name)
            return search_band(name, layout, self._tensors[tensor].sums)

        tensors = tuple(self._context.pool.map(search, range(len(names))))
        total = replace(total, steps=steps_of(layout, rows, total))
        return PredictorSearch("band", CONFIDENCE, BLOCKS, total, tensors, layout.width)
