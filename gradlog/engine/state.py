"""What accumulators have gathered, as plain arrays: what part files hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Symmetric:
    """A symmetric matrix (n, n) float64, of which a file holds the lower triangle."""

    matrix: NDArray[np.float64]

    def rows(self) -> Iterator[NDArray[np.float64]]:
        """The rows of the lower triangle."""
        for number, row in enumerate(self.matrix, 1):
            yield row[:number]


State = Mapping[str, NDArray[Any] | Symmetric]
"""Arrays by name; a name may have folders, as `squares/3`."""


class TensorError(ValueError):
    """Something is wrong with a tensor of a part. text : with {} for its name; tensor : its number"""

    def __init__(self, text: str, tensor: int) -> None:
        super().__init__(text.format(tensor))
        self.text = text
        self.tensor = tensor


class TensorOverflowError(TensorError):
    """Sums of a tensor don't fit into float64."""


class PartState(Protocol):
    """The arrays of one measure of a part, read when they are asked for."""

    def has(self, name: str) -> bool:
        """Whether there is an array of that name."""

    def numbers(self, folder: str = "") -> list[int]:
        """Numbers of tensors that arrays in a folder are named by, ascending; ValueError for others."""

    def strips(self, tensor: int) -> int:
        """How many of a tensor's strips the part holds."""

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """An array; an extent of -1 fits any. Raises ValueError where its shape is another."""

    def add_symmetric(self, name: str, matrix: NDArray[np.float64]) -> float:
        """Add a Gram matrix to the lower triangle of `matrix` (n, n), row by row; returns its trace.

        Raises ValueError where it is none.
        """

    def of(self, measure: str) -> PartState:
        """The arrays of another measure of the same part."""
