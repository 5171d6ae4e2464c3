"""What accumulators have gathered, as plain arrays: what part files hold, and processes hand on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass


@dataclass(frozen=True)
class Symmetric:
    """A symmetric matrix (n, n) float64. Its lower triangle counts: files and pickles hold no more."""

    matrix: NDArray[np.float64]

    def rows(self) -> Iterator[NDArray[np.float64]]:
        """The rows of the lower triangle."""
        for number, row in enumerate(self.matrix, 1):
            yield row[:number]

    def __reduce__(self) -> tuple[Callable[..., Symmetric], tuple[int, NDArray[np.float64]]]:
        return _from_triangle, (self.matrix.shape[0], np.concatenate([np.zeros(0), *self.rows()]))


def _from_triangle(size: int, triangle: NDArray[np.float64]) -> Symmetric:
    matrix, last = np.zeros((size, size)), 0
    for number, row in enumerate(matrix, 1):
        first, last = last, last + number
        row[:number] = triangle[first:last]
    return Symmetric(matrix)


State = Mapping[str, NDArray[Any] | Symmetric]
"""Arrays by name; a name may have folders, as `squares/3`."""


class TensorError(ValueError):
    """Something is wrong with a tensor of a part. text : with {} for its name; tensor : its number"""

    def __init__(self, text: str, tensor: int) -> None:
        super().__init__(text.format(tensor))
        self.text = text
        self.tensor = tensor

    def __reduce__(self) -> tuple[Callable[..., TensorError], tuple[str, int]]:
        return type(self), (self.text, self.tensor)


class TensorOverflowError(TensorError):
    """Sums of a tensor don't fit into float64."""


class PartState(Protocol):
    """The arrays of one measure of a part, or of several that were added, read when they are asked for."""

    def has(self, name: str) -> bool:
        """Whether there is an array of that name."""

    def numbers(self, folder: str = "") -> list[int]:
        """Numbers of tensors that arrays in a folder are named by, ascending; ValueError for others."""

    def strips(self, tensor: int) -> int:
        """How many of a tensor's strips the part holds."""

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """An array; an extent of -1 fits any. Raises ValueError where its shape is another."""

    def add_symmetric(self, name: str, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add a Gram matrix to the lower triangle of `matrix` (n, n), row by row; returns its diagonal.

        Raises ValueError where it is none.
        """

    def of(self, measure: str) -> PartState:
        """The arrays of another measure of the same part."""


class TakesPieces(Protocol):
    """An accumulator, as far as states are concerned: see `engine.measure`."""

    def pieces(self, state: PartState) -> Iterator[Any]:
        """Pieces that make up a state."""

    def merge(self, piece: Any) -> None:
        """Add one."""


def add_part(accumulators: Mapping[str, TakesPieces], part: PartState) -> None:
    """Add what a part holds to accumulators, by the name of their measure.

    Raises ValueError where its arrays don't fit each other, or those of the parts before.
    """
    for name, accumulator in accumulators.items():
        for piece in accumulator.pieces(part.of(name)):
            accumulator.merge(piece)


@dataclass(frozen=True)
class HeldState:
    """States of measures in memory, by name: a `PartState`, of the measure that it is taken `of`.

    held : how many of each tensor's strips they are of
    """

    states: Mapping[str, State]
    held: Sequence[int]
    measure: str = ""

    @property
    def _arrays(self) -> State:
        return self.states.get(self.measure, {})

    def has(self, name: str) -> bool:
        """As of `PartState`."""
        return name in self._arrays

    def numbers(self, folder: str = "") -> list[int]:
        """As of `PartState`."""
        start = f"{folder}/" if folder else ""
        found = [name.removeprefix(start) for name in self._arrays if name.startswith(start)]
        return sorted(int(name) for name in found if "/" not in name)

    def strips(self, tensor: int) -> int:
        """As of `PartState`."""
        return self.held[tensor]

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """As of `PartState`."""
        array = self._arrays.get(name)
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{self.measure}/{name} is missing")
        fits = all(e in (-1, f) for e, f in zip(shape, array.shape, strict=False))
        if array.ndim != len(shape) or not fits:
            raise ValueError(f"{self.measure}/{name} has shape {array.shape}")
        return array.astype(np.float64, copy=False)

    def add_symmetric(self, name: str, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """As of `PartState`."""
        symmetric = self._arrays.get(name)
        if not isinstance(symmetric, Symmetric) or symmetric.matrix.shape != matrix.shape:
            raise ValueError(f"{self.measure}/{name} is no matrix of {matrix.shape[0]} rows")
        for number, row in enumerate(symmetric.rows()):
            matrix[number, : number + 1] += row
        return symmetric.matrix.diagonal().copy()

    def of(self, measure: str) -> HeldState:
        """As of `PartState`."""
        return replace(self, measure=measure)

    def merge_into(self, accumulators: Mapping[str, TakesPieces]) -> None:
        """Add all of it to accumulators, by the name of their measure. Raises as `add_part`."""
        add_part(accumulators, self)
