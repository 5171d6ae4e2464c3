"""Windows of training, tile by tile: rows are carried on until their window is whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.window_gram import window_grams
from ...engine.tile import Tile
from ...quick_dataclass import dataclass


@dataclass(frozen=True)
class WindowGrams:
    """Matrices of windows first, first + 1, ... over some columns of a tensor.

    grams : (n, 2, 2, window, window) float64, as of `window_grams`; last : no window follows
    """

    tensor: int
    first: int
    grams: NDArray[np.float64]
    last: bool


class CarriedRows:
    """Gradients of some columns, from the row before the last whole window on: what the next windows need."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._rows: NDArray[Any] | None = None
        self._start = 0
        self._next = 0

    def update(self, tensor: int, rows: NDArray[np.floating[Any]], start: int, last: bool) -> WindowGrams:
        """Take rows start, start + 1, ... in; the windows that are whole now, or at the end all.

        rows : (T, W), copied where it is needed later
        """
        if self._rows is not None:
            rows, start = np.concatenate([self._rows, rows]), self._start
        stop, first = start + rows.shape[0], self._next
        self._next = -(-stop // self._window) if last else stop // self._window
        grams = window_grams(rows, start, stop, self._window, first, self._next)
        if last:
            self._rows = None
        else:
            keep = max(start, (self._next - 1) * self._window - 1)
            self._rows, self._start = rows[keep - start :].copy(), keep
        return WindowGrams(tensor, first, grams, last)


class TileWindows:
    """Windows of all tiles: what each carries from one block of rows to the next."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._carried: dict[tuple[int, int], list[CarriedRows]] = {}

    def take(self, tile: Tile) -> tuple[WindowGrams, ...]:
        """The windows of each strip that are whole with the rows of a tile."""
        carried = self._carried.pop(tile.key, None) or [CarriedRows(self._window) for _ in tile.strips]
        last = tile.block.last
        if not last:
            self._carried[tile.key] = carried
        return tuple(
            rows.update(strip.tensor, tile.of(strip), tile.start, last)
            for rows, strip in zip(carried, tile.strips, strict=True)
        )
