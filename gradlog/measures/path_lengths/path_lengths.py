"""Path lengths of the whole model and of every tensor: sums of rows, added up (a monoid)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import (
    ENERGY,
    INCREMENT,
    LAG_PRODUCT,
    NONFINITE,
    PREDICTORS,
    PRODUCT,
    sum_columns,
)
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape
from ...engine.state import PartState, State, TensorError, TensorOverflowError
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ...results.projection import GROUPS
from .path_length import PathLengthSeries, PathLengthTotals

Doubles = NDArray[np.float64]

NAME = "path_lengths"
SUMS = 1e-9
"""Relative to the sum of absolute values: by how much sums in another order may differ."""
ROWS = 1e-5
"""Relative to the energies of two rows: increments of float32 gradients are rounded."""
NOTHING = 1e-300
"""Sums below this have lost their digits."""


@dataclass(frozen=True)
class PathLengths(Measure):
    """specs : of the predictors, in the order of the sums' columns; stored : numbers of tensors that are
    sketches
    """

    name = NAME
    specs: tuple[str, ...]
    stored: frozenset[int] = frozenset()

    def kept_bytes(self, shape: PassShape) -> int:
        """Of the whole model's sums of every row, and a copy."""
        return 8 * sum_columns(len(self.specs)) * 2 * shape.rows

    def state_bytes(self, shape: PassShape, begun: int) -> int:  # noqa: ARG002
        """As of `Measure`: of every row, and of every tensor."""
        return 8 * sum_columns(len(self.specs)) * (shape.rows + len(shape.tensors))

    def start(self, context: PassContext) -> PathLengthSums:
        """As of `Measure`."""
        return PathLengthSums(self.specs, len(context.names), context.rows, self.stored)


@dataclass(frozen=True)
class RowsOfTensors:
    """Sums of rows start, start + 1, ... over some parameters: of all together, and of each tensor.

    series : (T, columns of `fused_pass`) float64; totals : (columns,) over those rows, of each tensor, and of
    each group of a stored sketch; groups : (tensor, group, (columns,)) that are among those totals already
    """

    start: int
    series: Doubles
    totals: Sequence[tuple[int, int | None, Doubles]]
    groups: Sequence[tuple[int, int, Doubles]] = ()


class PathLengthSums(Accumulator[RowsOfTensors]):
    """series : of the whole model's rows; totals : of each tensor"""

    def __init__(self, specs: Sequence[str], tensors: int, rows: int, stored: frozenset[int]) -> None:
        self._stored = stored
        self.series = PathLengthSeries(rows, specs)
        self.totals = [PathLengthTotals(specs) for _ in range(tensors)]

    def row_sums(self, tile: Tile) -> RowsOfTensors:
        """As of `Accumulator`."""
        series = tile.sums[0]
        if len(tile.sums) > 1:
            series = series.copy()
            for sums in tile.sums[1:]:
                series += sums
        totals = [
            (strip.tensor, strip.group, sums.sum(axis=0))
            for strip, sums in zip(tile.strips, tile.sums, strict=True)
        ]
        return RowsOfTensors(tile.start, series, totals)

    def merge(self, piece: RowsOfTensors) -> None:
        """As of `Accumulator`."""
        self.series.update(piece.start, piece.series)
        for tensor, group, sums in piece.totals:
            self.totals[tensor].add(sums, group)
        for number, of_group, sums in piece.groups:
            self.totals[number].add_group(of_group, sums)

    def state(self) -> State:
        """series : (N, columns); totals : (tensors, columns)

        groups/T : (G, columns) of the first groups of a stored sketch, zeros of those that are elsewhere
        """
        rows = [totals.totals for totals in self.totals]
        columns = self.series.sums.shape[1]
        found = {"series": self.series.sums, "totals": np.stack(rows) if rows else np.zeros((0, columns))}
        for tensor in sorted(self._stored):
            held = self.totals[tensor].groups
            if held:
                groups = found[f"groups/{tensor}"] = np.zeros((max(held) + 1, columns))
                for group, sums in held.items():
                    groups[group] = sums
        return found

    def pieces(self, state: PartState) -> Iterator[RowsOfTensors]:
        """As of `Accumulator`."""
        rows, columns = self.series.sums.shape
        series = state.array("series", (rows, columns))
        totals = state.array("totals", (len(self.totals), columns))
        _check(series, totals)
        held = [tensor for tensor in sorted(self._stored) if state.strips(tensor)]
        if state.numbers("groups") != held:
            raise ValueError("it holds sums by group of other tensors than it has sketches of")
        groups = []
        for tensor in held:
            found = state.array(f"groups/{tensor}", (-1, columns))
            if not _are_groups(found, totals[tensor]):
                raise ValueError(f"{NAME}/groups/{tensor}.npy does not add up to totals.npy")
            groups += [(tensor, group, sums) for group, sums in enumerate(found) if sums.any()]
        every = [(tensor, None, sums) for tensor, sums in enumerate(totals)]
        yield RowsOfTensors(0, series, every, groups)

    def result(self) -> PathLengthSums:
        """Itself."""
        return self


def _check(series: Doubles, totals: Doubles) -> None:
    """Raise ValueError where a part's sums over rows and over tensors are not those of the same squares."""
    for tensor, sums in enumerate(totals):
        if not np.isfinite(sums).all():
            raise TensorOverflowError("the sums of tensor {} overflow", tensor)
    squares = _of_squares(series.shape[1])
    if not np.isfinite(series).all() or (series[:, squares] < 0).any() or (totals[:, squares] < 0).any():
        raise ValueError("a sum of squares is negative or no number")
    if series[:, NONFINITE].any():
        raise ValueError("it counts gradients that are not finite")
    if not add_up(series.sum(axis=0), totals.sum(axis=0), np.abs(series).sum(axis=0)):
        raise ValueError("series.npy and totals.npy don't add up to the same")
    if not rows_follow(series[:, ENERGY], series[:, LAG_PRODUCT], series[:, INCREMENT]):
        raise ValueError("the rows of series.npy don't follow each other")


def _are_groups(groups: Doubles, total: Doubles) -> bool:
    """Whether sums by group are such, and add up to those of the tensor."""
    if not np.isfinite(groups).all() or (groups[:, _of_squares(groups.shape[1])] < 0).any():
        return False
    return len(groups) <= GROUPS and add_up(groups.sum(axis=0), total, np.abs(groups).sum(axis=0))


def _of_squares(columns: int) -> NDArray[np.bool_]:
    """Which sums are of squares, and not of products."""
    squares = np.ones(columns, dtype=bool)
    squares[[LAG_PRODUCT, *range(PREDICTORS + PRODUCT, columns, 3)]] = False
    return squares


def rows_follow(energy: Doubles, product: Doubles, increment: Doubles) -> bool:
    """Whether ||g_t - g_{t-1}||^2 = ||g_t||^2 + ||g_{t-1}||^2 - 2 <g_t, g_{t-1}>, where nothing overflows."""
    both = energy[1:] + energy[:-1]
    apart = np.abs(both - 2 * product[1:] - increment[1:])
    sound = (apart <= ROWS * both + NOTHING) | ~np.isfinite(apart)
    return bool(sound.all()) and not (product[0] or increment[0])


def add_up(found: Doubles, expected: Doubles, scale: Doubles) -> bool:
    """Whether sums in another order are the same. Overflow is told of when all parts are there."""
    known = np.isfinite(found) & np.isfinite(expected) & np.isfinite(scale)
    return bool((np.abs(found - expected)[known] <= SUMS * scale[known] + NOTHING).all())


def part_totals(state: PartState, tensors: int) -> Doubles:
    """(tensors, columns) float64: what a part holds of each tensor over all rows."""
    return state.of(NAME).array("totals", (tensors, -1))


def check_complete(totals: Doubles, held: Container[int], what: str) -> None:
    """Raise TensorError where a part has gradients of a tensor that is not among `held`."""
    for tensor in np.flatnonzero(totals[:, ENERGY]).tolist():
        if tensor not in held:
            raise TensorError(f"it holds no {what} of tensor {{}}", tensor)


def check_strips(
    state: PartState, strips: Mapping[int, int], whole: Iterable[int], cut: Iterable[int], what: str
) -> None:
    """Raise TensorError where a part does not hold all strips of a tensor of `whole`, or all of one of `cut`.

    strips : of each tensor in the whole plan
    """
    for tensor in whole:
        if state.strips(tensor) != strips.get(tensor, 0):
            raise TensorError(f"it holds {what} of tensor {{}} whole, and another part a piece of it", tensor)
    for tensor in cut:
        if not 0 < state.strips(tensor) < strips.get(tensor, 0):
            raise TensorError(
                f"it holds {what} of a piece of tensor {{}}, and no other part the rest", tensor
            )
