"""Rolling windows of increments of the whole model: their singular values, from its Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.gram import squared_singular_values
from ..engine.measure import Accumulator, Measure, PassContext
from ..engine.state import PartState, State
from ..quick_dataclass import dataclass
from ..results.samples import STRIDE, WINDOW
from .spectra.exact_spectrum import RowGramSums
from .spectra.spectrum import NAME as SPECTRUM

Doubles = NDArray[np.float64]

NAME = "increment_windows"


@dataclass(frozen=True)
class IncrementWindows(Measure):
    """Follows an exact spectrum over rows; without one it finds nothing."""

    name = NAME

    def start(self, context: PassContext) -> WindowSquares:
        """As of `Measure`."""
        return WindowSquares(context)


class WindowSquares(Accumulator[Doubles]):
    """Takes the finished Gram matrix. A piece is what came of it: (n, WINDOW) sigma_i^2."""

    of_every_tensor = False

    def __init__(self, context: PassContext) -> None:
        self._squares: Doubles | None = None
        spectrum = context.started.get(SPECTRUM)
        if isinstance(spectrum, RowGramSums):
            spectrum.listeners.append(self)

    def take_tensor(self, tensor: int, gram: NDArray[Any]) -> None:
        """As of `GramListener`."""

    def take_increments(self, tensor: int, gram: Doubles) -> None:
        """As of `GramListener`."""

    def take_model(self, gram: Doubles, of_increments: Doubles) -> None:  # noqa: ARG002
        """As of `GramListener`."""
        self._squares = window_squares(of_increments)

    def merge(self, piece: Doubles) -> None:
        """As of `Accumulator`: of the only tensor, where it is whole in a part."""
        self._squares = piece

    def state(self) -> State:
        """squares : (n, WINDOW), where the whole model is here"""
        return {} if self._squares is None else {"squares": self._squares}

    def pieces(self, state: PartState) -> Iterator[Doubles]:
        """As of `Accumulator`."""
        if state.has("squares"):
            squares = state.array("squares", (-1, WINDOW))
            if not np.isfinite(squares).all() or (np.diff(squares, axis=1) > 0).any():
                raise ValueError(f"{NAME}/squares.npy is no table of spectra")
            yield squares

    def result(self) -> Doubles | None:
        """(n, WINDOW) sigma_i^2 of each window, descending; None without an exact spectrum over rows."""
        return self._squares


def window_starts(increments: int) -> NDArray[np.int64]:
    """First increment, which is the row before it, of each rolling window."""
    return np.arange(0, increments - WINDOW + 1, STRIDE, dtype=np.int64)


def window_squares(gram: Doubles) -> Doubles:
    """(n, WINDOW) sigma_i^2, descending, of the increments of each rolling window, from their Gram matrix."""
    starts = window_starts(gram.shape[0])
    if not starts.size:
        return np.zeros((0, WINDOW))
    blocks = np.stack([gram[at : at + WINDOW, at : at + WINDOW] for at in starts])
    return squared_singular_values(blocks)
