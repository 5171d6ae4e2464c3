"""The band of the Gram matrix while the pass goes on: of tiles, added up in the order of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ....kernels.lagged_products import LaggedProducts
from ....kernels.pass_layout import ENERGY, INCREMENT, LAG_PRODUCT
from ...engine.block import Block
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape
from ...engine.state import PartState, State
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ...results.search_result import PredictorSearch, ScopeSearch
from ..path_lengths.path_lengths import NAME as PATH_LENGTHS
from ..path_lengths.path_lengths import PathLengthSums, add_up, check_complete, part_totals
from ..spectra.exact_spectrum import adds_up, is_large
from . import NAME
from .band_search import search_band, steps_of
from .candidates import CONFIDENCE, NO_PARAMETERS
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


@dataclass(frozen=True)
class BandOfPart:
    """What a part adds. lagged : (N, columns) over all its parameters, None for none

    tensors : of each its number, and what `HistoryTables` has of it: `side_by_side`, `products`
    """

    lagged: Doubles | None
    tensors: Sequence[tuple[int, Doubles, Doubles]]


class BandSums(Accumulator[LaggedRows | BandOfPart]):
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

    def merge(self, piece: LaggedRows | BandOfPart) -> None:
        """As of `Accumulator`: blocks of the same columns follow one another in time."""
        if isinstance(piece, BandOfPart):
            if piece.lagged is not None:
                self._model[:, STEPS:] += piece.lagged
            for tensor, side_by_side, products in piece.tensors:
                self._band(tensor).sums.add(side_by_side, products)
            return
        for tensor, lagged, sums in piece.strips:
            self._model[piece.start : piece.start + lagged.shape[0], STEPS:] += lagged
            if self._alone:
                continue
            rows = np.concatenate([sums, lagged], axis=1)
            if tensor in self._block:
                self._block[tensor] += rows
            else:
                self._block[tensor] = rows

    def _band(self, tensor: int) -> BinnedBand:
        if tensor not in self._tensors:
            self._tensors[tensor] = BinnedBand(self._layout, TENSOR_BINS)
        return self._tensors[tensor]

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:  # noqa: ARG002
        """As of `Accumulator`."""
        for tensor, rows in self._block.items():
            self._band(tensor).take(rows)
        self._block = {}
        if block.last:
            for tensor in {segment.tensor for segment in block.range.segments} & self._tensors.keys():
                self._tensors[tensor].end()

    def state(self) -> State:
        """lagged : (N, columns) of all parameters here; bins/T, products/T : `HistoryTables` of tensors

        The only tensor has no tables: they follow from the former.
        """
        lagged = self._model[:, STEPS:]
        found = {"lagged": lagged} if lagged.any() else {}
        for tensor, band in sorted(self._tensors.items()):
            found[f"bins/{tensor}"] = band.sums.side_by_side()
            found[f"products/{tensor}"] = band.sums.products()
        return found

    def pieces(self, state: PartState) -> Iterator[BandOfPart]:
        """As of `Accumulator`: what doesn't add up to the part's energies is refused."""
        totals = part_totals(state, len(self._context.names))
        shape = self._layout.rows, self._layout.columns
        lagged = state.array("lagged", shape) if state.has("lagged") else None
        energy = 0.0 if lagged is None else float(lagged[:, 0].sum())
        sound = lagged is None or (bool(np.isfinite(lagged).all()) and not lagged[0].any())
        if not sound or not adds_up(energy, float(totals[:, INCREMENT].sum())):
            raise ValueError(f"{NAME}/lagged.npy does not fit totals.npy")
        yield BandOfPart(lagged, ())
        if self._alone:
            return
        held = state.numbers("bins")
        check_complete(totals, held, "products of rows")
        empty = BinnedBand(self._layout, TENSOR_BINS).sums
        for tensor in held:
            tables = state.array(f"bins/{tensor}", empty.side_by_side().shape)
            products = state.array(f"products/{tensor}", empty.products().shape)
            energies, expected = tables[:, :1].sum(axis=0), totals[tensor, ENERGY : ENERGY + 1]
            if not np.isfinite(tables).all() or not add_up(energies, expected, expected):
                raise ValueError(f"{NAME}/bins/{tensor}.npy does not add up to totals.npy")
            # Of the average of decay 0, which is the gradient before.
            before = float(products[0, self._layout.decays.index(0.0)] + totals[tensor, LAG_PRODUCT])
            if not np.isfinite(products).all() or not adds_up(before, float(expected[0])):
                raise ValueError(f"{NAME}/products/{tensor}.npy does not fit totals.npy")
            yield BandOfPart(None, [(tensor, tables, products)])

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
            if not self._context.parameters[tensor]:
                return ScopeSearch(name, (), NO_PARAMETERS)
            if self._alone:
                return replace(total, name=name)
            return search_band(name, layout, self._tensors[tensor].sums)

        tensors = tuple(self._context.pool.map(search, range(len(names))))
        total = replace(total, steps=steps_of(layout, rows, total))
        return PredictorSearch("band", CONFIDENCE, BLOCKS, total, tensors, layout.width)
