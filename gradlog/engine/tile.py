"""A tile: neighbouring columns of a block, the unit of work; and the sums of its rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.fused_pass import fused_pass
from ...kernels.pass_layout import NONFINITE, PANEL, CarriedHistory, history_shape, sum_columns
from ..predictors import HistoryBank
from ..quick_dataclass import dataclass
from .block import Block
from .parameter_range import Strip, Strips

Doubles = NDArray[np.float64]


@dataclass
class Tile:
    """Tile `number` of a block.

    sums : of each strip (T, columns of `fused_pass`), once they are taken
    finite : no entry so far of these columns is NaN or infinite
    first_gradients : (1, W), a copy of g_0 where it was asked for and this block has it
    """

    block: Block
    number: int
    strips: Strips
    last_of_block: bool
    sums: list[Doubles] = field(default_factory=list)
    finite: bool = True
    first_gradients: NDArray[np.floating[Any]] | None = None

    @property
    def key(self) -> tuple[int, int]:
        """What the tiles of the same columns, in all blocks of rows, have in common."""
        return self.block.range_index, self.number

    @property
    def start(self) -> int:
        """Index t of its first row."""
        return self.block.start

    @property
    def rows(self) -> int:
        """Number of rows, T."""
        return int(self.block.values.shape[0])

    @property
    def first(self) -> int:
        """Its first column in the block."""
        return self.strips[0].first

    @property
    def last(self) -> int:
        """Its last column in the block, + 1."""
        return self.strips[-1].last

    @property
    def values(self) -> NDArray[np.floating[Any]]:
        """(T, W) gradients, or increments once they have taken their place: zeros in row 0 of the run."""
        return self.block.values[:, self.first : self.last]

    def of(self, strip: Strip) -> NDArray[np.floating[Any]]:
        """(T, w) of one strip."""
        return self.block.values[:, strip.first : strip.last]


class RowSums:
    """Sums of rows, tile by tile: predictors' history is carried from one block of rows to the next.

    bank : of the predictors; increments : whether they take the gradients' place
    """

    def __init__(self, bank: HistoryBank, *, increments: bool) -> None:
        self._bank = bank
        self._increments = increments
        self._decays = np.array(bank.decays, dtype=np.float64)
        self._carried: dict[tuple[int, int], list[CarriedHistory]] = {}
        self._buffers = threading.local()
        self._spoiled: set[tuple[int, int]] = set()

    def weights(self, block: Block) -> Doubles:
        """As of `HistoryBank.weights`, for a block's rows."""
        return self._bank.weights(block.start, block.start + block.values.shape[0])

    def take(self, tile: Tile, weights: Doubles) -> None:
        """Fill `tile.sums` and `tile.finite`."""
        block, bank = tile.block, self._bank
        before = self._carried.pop(tile.key, None)
        kept = []
        for number, strip in enumerate(tile.strips):
            width = strip.last - strip.first
            # Columns whose rows are all here share one panel: nothing is carried on.
            once = block.start == 0 and block.last
            history = self._history(1 if once else width)
            if before is None:
                history[:, :, : min(width, PANEL)] = 0.0
            else:
                before[number].restore(history)
            sums = np.zeros((tile.rows, sum_columns(len(bank.predictors))))
            fused_pass(
                block.values, strip.first, strip.last, block.start, history, bank.lags, self._decays,
                weights, sums, self._increments,
            )  # fmt: skip
            tile.sums.append(sums)
            if not block.last:
                kept.append(CarriedHistory.of(history, width, bank.lags, block.values.dtype))
        if kept:
            self._carried[tile.key] = kept
        if any(sums[:, NONFINITE].any() for sums in tile.sums):
            self._spoiled.add(tile.key)
        # Later blocks of these columns start from what is not finite: nothing is made of them either.
        tile.finite = tile.key not in self._spoiled

    def _history(self, columns: int) -> Doubles:
        """Room for the history of so many columns, of which each thread has one."""
        shape = history_shape(columns, self._bank.lags, len(self._bank.decays))
        held: Doubles | None = getattr(self._buffers, "history", None)
        if held is None or held.shape[0] < shape[0]:
            held = self._buffers.history = np.empty(shape)
        return held[: shape[0]]


class OpenBlocks:
    """Counts the tiles of blocks that are in work, and says when a block's last one is over."""

    def __init__(self) -> None:
        self._pending: dict[int, int] = {}
        self._lock = threading.Lock()

    def tiles(self, block: Block) -> Iterator[Tile]:
        """The tiles of a block."""
        tiles: Sequence[Strips] = block.range.tiles
        self._pending[id(block)] = len(tiles)
        for number, strips in enumerate(tiles):
            yield Tile(block, number, strips, number == len(tiles) - 1)

    def over(self, tile: Tile) -> bool:
        """Count a tile as over; whether it was its block's last."""
        with self._lock:
            self._pending[id(tile.block)] -= 1
            over = self._pending[id(tile.block)] == 0
            if over:
                del self._pending[id(tile.block)]
        return over
