"""Residuals of history-based predictors from a banded Gram matrix, for logs whose full one is not formed.

The pass gathers <h_t, h_{t-l}> for lags l below a width, and <h_t, e_{t-1}> of averages of a few decays
(see `kernels.lagged_products`): averages, mixtures of two of them, means up to the width and weights on lags
follow from these alone, in the way of `history_gram`. Rows come in the order of time; what they add is kept
by bins of rows, so that memory doesn't follow their number. All of it is linear in the products: tables of
disjoint parameters add.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...engine.ranges import TILE_WIDTH
from ...quick_dataclass import dataclass
from ...statistics.step_bins import bin_edges
from .history_gram import average_products, average_residuals, pair_residuals
from .history_lags import LONGEST_MEAN, MOST_LAGS, HistoryLags
from .predictor_search import DECAYS, MIXED

Doubles = NDArray[np.float64]

WIDTH = 64
"""Lags of increments whose products are kept, unless another width is asked for."""
NEAR = 0.7
"""Averages up to this decay forget within WIDTH: 0.7^63 is below 2e-10. Other widths have others."""
LEAST_WIDTH, MOST_WIDTH = 2, LONGEST_MEAN
"""Widths that can be asked for: a mean takes 2 gradients at least, and longer ones are not searched."""
NARROW_WIDTH = 1
"""Where memory holds no more: averages and their mixtures alone."""
MODEL_BINS = 512
TENSOR_BINS = 128
"""Bins of rows, of the whole model and of each tensor; up to here a bin is a row."""
AT_ONCE = 512
"""Rows that are reduced together."""
STEPS = 3
"""Columns in front of a row's lagged products: ||g_t||^2, <g_t, g_{t-1}>, ||h_t||^2."""


@dataclass(frozen=True)
class BandLayout:
    """What is gathered of a run of so many rows.

    width : lags 0 .. width - 1 of increments
    near, followed : decays of averages, ascending and the former smaller: those that forget within the width
    follow from its lags, the others are followed by the pass
    """

    rows: int
    width: int
    near: tuple[float, ...]
    followed: tuple[float, ...]

    @classmethod
    def of(cls, rows: int, width: int, measured: Sequence[float]) -> BandLayout:
        """Of the decays of a grid, and those of averages that are measured anyway."""
        decays = {*DECAYS.tolist(), *(step / 20 for step in range(20) if step / 20 <= NEAR), *measured}
        forgotten = NEAR ** ((WIDTH - 1) / (width - 1)) if width > 1 else -1.0
        near = sorted(decay for decay in decays if decay <= forgotten)
        return cls(rows, width, tuple(near), tuple(sorted(decays - {*near})))

    @property
    def decays(self) -> tuple[float, ...]:
        """(E,) of all averages, ascending."""
        return self.near + self.followed

    def only(self, decays: Container[float]) -> tuple[BandLayout, NDArray[np.int64]]:
        """The layout with these of its decays alone, and which of a row's products it keeps."""
        near = tuple(decay for decay in self.near if decay in decays)
        at = [place for place, decay in enumerate(self.followed) if decay in decays]
        kept = np.array([*range(self.width), *(self.width + place for place in at)], dtype=np.int64)
        return replace(self, near=near, followed=tuple(self.followed[place] for place in at)), kept

    @property
    def columns(self) -> int:
        """Products of each row that the pass gathers."""
        return self.width + len(self.followed)

    @property
    def pairs(self) -> NDArray[np.int64]:
        """(Q, 2) numbers of the decays that are mixed."""
        places = np.flatnonzero(np.isin(self.decays, MIXED))
        return np.array(list(itertools.combinations(places, 2)), dtype=np.int64).reshape(-1, 2)

    @property
    def longest_mean(self) -> int:
        """Means of up to so many gradients are searched; 0 for none."""
        return max(1, min(self.width, self.rows - 1)) if self.width > 1 else 0

    @property
    def lags(self) -> int:
        """Linear predictors of up to so many gradients are searched."""
        return min(MOST_LAGS, self.width, self.rows // 16) if self.width > 1 else 0

    def column_bytes(self, entry: int) -> int:
        """Bytes that each parameter carries from block to block. entry : bytes of a gradient's entry"""
        return max(1, self.width - 1) * entry + 8 * len(self.followed)

    def kept_bytes(self, tensors: int, workers: int) -> int:
        """Bytes of sums by bins, of the whole model's products, and of tiles in work."""
        table = 1 + len(self.decays) + len(self.pairs) + self.longest_mean + (self.lags + 1) ** 2
        bins = tensors * min(self.rows, TENSOR_BINS + 1) + 2 * min(self.rows, MODEL_BINS + 1)
        open_rows = 4 * (AT_ONCE + self.width) * (table + self.columns)
        model = self.rows * (STEPS + self.columns)
        in_work = workers * TILE_WIDTH * (2 * self.width + 3 * len(self.followed))
        return 8 * (bins * table + open_rows + model + in_work)


@dataclass(frozen=True)
class HistoryTables:
    """What predictors leave of n rows from row `start` on, or of n bins of all rows.

    energy : (n,) ||g_t||^2; averages : (n, E) ||e_t||^2; joint : (n, Q) <e_t, e'_t> of pairs
    means : (n, K) ||g_t - m_t||^2 of mean:1 .. mean:K; lags : (n, p + 1, p + 1), as of `HistoryGram`
    average_products, mean_products : (n, E), (n, K) of <g_t, g_t - m_t>; of bins (1, E), (1, K), of all rows
    """

    start: int
    energy: Doubles
    averages: Doubles
    joint: Doubles
    means: Doubles
    lags: Doubles
    average_products: Doubles
    mean_products: Doubles

    @classmethod
    def zeros(cls, layout: BandLayout, bins: int) -> HistoryTables:
        """Of no rows yet."""
        decays, means, lags = len(layout.decays), layout.longest_mean, layout.lags + 1
        return cls(
            0, np.zeros(bins), np.zeros((bins, decays)), np.zeros((bins, len(layout.pairs))),
            np.zeros((bins, means)), np.zeros((bins, lags, lags)),
            np.zeros((1, decays)), np.zeros((1, means)),
        )  # fmt: skip

    @property
    def tables(self) -> tuple[Doubles, ...]:
        """Those that have a place for each row or bin."""
        return self.energy, self.averages, self.joint, self.means, self.lags

    def side_by_side(self) -> Doubles:
        """(n, columns): `tables`, of each row or bin all numbers in one row."""
        return np.concatenate([table.reshape(len(table), -1) for table in self.tables], axis=1)

    def products(self) -> Doubles:
        """(n, E + K): of averages and means; of bins (1, E + K)."""
        return np.concatenate([self.average_products, self.mean_products], axis=1)

    def add(self, side_by_side: Doubles, products: Doubles) -> None:
        """Add what the two above gave of disjoint parameters."""
        last = 0
        for table in self.tables:
            first, last = last, last + table.size // len(table)
            table += side_by_side[:, first:last].reshape(table.shape)
        averages = self.average_products.shape[1]
        self.average_products[...] += products[:, :averages]
        self.mean_products[...] += products[:, averages:]


class HistoryBand:
    """Takes the rows of some parameters in, in the order of time, and hands their tables on.

    take_tables : called with the tables of rows that follow one another
    """

    def __init__(self, layout: BandLayout, take_tables: Callable[[HistoryTables], None]) -> None:
        self._layout = layout
        self._take_tables = take_tables
        self._decays = np.array(layout.decays)
        self._waiting: list[Doubles] = []
        self._context = np.zeros((0, STEPS + layout.columns))
        self._done = 0
        self._before: tuple[Doubles, Doubles, Doubles] | None = None

    def take(self, rows: Doubles) -> None:
        """rows : (n, STEPS + columns): the constants of STEPS, then what `LaggedProducts` gives."""
        self._waiting.append(rows)
        if sum(part.shape[0] for part in self._waiting) >= AT_ONCE:
            self.finish()

    def finish(self) -> None:
        """Hand on what waits."""
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting = []
        for at in range(0, rows.shape[0], AT_ONCE):
            self._reduce(rows[at : at + AT_ONCE])

    def _reduce(self, rows: Doubles) -> None:
        layout, start = self._layout, self._done
        energy, _, diagonal = rows[:, :STEPS].T
        diagonal = diagonal.copy()
        own = diagonal.copy()  # <g_t, h_t>
        held = np.concatenate([self._context, rows])
        old = self._context.shape[0]
        if start == 0:
            diagonal[0] = own[0] = energy[0]
        drift = held[:, 1].copy()
        drift[1:] -= held[:-1, 0]
        drift[0] = 0.0
        own[start == 0 :] += drift[old + (start == 0) :]
        lagged = rows[:, STEPS + 1 : STEPS + layout.width]
        fading = np.array(layout.near) ** np.arange(layout.width - 1)[:, None]
        crossings = np.concatenate([lagged @ fading, rows[:, STEPS + layout.width :]], axis=1)
        first, second = layout.pairs.T
        before = self._before or (0.0, 0.0, 0.0)
        averages = average_residuals(diagonal, self._decays, crossings, before[0])
        products = average_products(own, self._decays, crossings, before[1])
        joint = pair_residuals(
            diagonal, self._decays[first], self._decays[second], crossings[:, first], crossings[:, second],
            before[2],
        )  # fmt: skip
        self._before = averages[-1], products[-1], joint[-1]
        count = rows.shape[0]
        means = mean_products = np.zeros((count, 0))
        lags = np.zeros((count, 1, 1))
        if layout.width > 1:
            band = held[:, STEPS : STEPS + layout.width].T.copy()
            if start == 0:
                band[0, 0] = energy[0]
            near = HistoryLags(band, held[:, 0], drift)
            found, apart_by = near.mean_residuals(layout.longest_mean)
            means, mean_products = found[old:], near.mean_products(apart_by)[old:]
            lags = near.lag_products(layout.lags)[old:]
        self._take_tables(HistoryTables(start, energy, averages, joint, means, lags, products, mean_products))
        self._done += count
        self._context = held[max(0, held.shape[0] - layout.width) :].copy()


class BinnedBand:
    """Adds the rows of one scope up by bins: over all its parameters, or over some after others."""

    def __init__(self, layout: BandLayout, most_bins: int) -> None:
        self._layout = layout
        edges = bin_edges(layout.rows, most_bins)
        self._bin_of = np.repeat(np.arange(edges.size - 1), np.diff(edges))
        self.sums = HistoryTables.zeros(layout, edges.size - 1)
        self._band = HistoryBand(layout, self._add)

    def take(self, rows: Doubles) -> None:
        """As of `HistoryBand`."""
        self._band.take(rows)

    def end(self) -> None:
        """All rows of some parameters are in: others may follow, from row 0 on."""
        self._band.finish()
        self._band = HistoryBand(self._layout, self._add)

    def _add(self, tables: HistoryTables) -> None:
        count = tables.energy.shape[0]
        bins = self._bin_of[tables.start : tables.start + count]
        first = np.flatnonzero(np.diff(bins, prepend=-1))
        sums = self.sums
        for whole, rows in (
            (sums.energy, tables.energy), (sums.averages, tables.averages), (sums.joint, tables.joint),
            (sums.means, tables.means), (sums.lags, tables.lags),
        ):  # fmt: skip
            whole[bins[first]] += np.add.reduceat(rows, first, axis=0)
        sums.average_products[0] += tables.average_products.sum(axis=0)
        sums.mean_products[0] += tables.mean_products.sum(axis=0)


def row_tables(
    layout: BandLayout, rows: Doubles, columns: Sequence[int] | slice = slice(None)
) -> Iterator[HistoryTables]:
    """The tables of all rows of a scope, some at a time. columns : of `rows`, the STEPS + columns to take"""
    found: list[HistoryTables] = []
    band = HistoryBand(layout, found.append)
    for at in range(0, rows.shape[0], AT_ONCE):
        band.take(rows[at : at + AT_ONCE, columns])
        band.finish()
        yield from found
        found.clear()
