"""Project rows one at a time, as they are recorded, to the sums that a sketch of their log would store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...results.projection import Projection
from .projected_rows import Piece, project_rows
from .sketch_choice import is_wide


class RowProjection:
    """Puts M sums in the place of a tensor's gradient, where it has more than M entries.

    `sketch_log` stores the same to the last bit, where it reads a tensor's coordinates in C order: where
    chunks cut its first axis alone. Else float64 sums are taken in another order before they are rounded.
    """

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self._bases: dict[str, tuple[np.uint64, np.uint64]] = {}

    def is_wide(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape is projected; others are stored as they are."""
        return is_wide(math.prod(shape), self.projection.dim)

    def apply(self, name: str, values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """S g of a tensor's gradient g, (groups, M / groups) of its dtype; a small g as it is.

        values : float32 or float64, C order

        Sums that are not finite, or too large for the dtype, stay so: the caller decides about them.
        """
        if not self.is_wide(values.shape):
            return values
        if name not in self._bases:
            self._bases[name] = self.projection.bases(name)
        groups = self.projection.groups
        row, sums = values.reshape(1, -1), np.zeros((1, self.projection.dim))
        project_rows(row, (0, 1), [Piece(0, row.size, 0)], self._bases[name], groups, sums)
        sums /= np.sqrt(float(groups))
        with np.errstate(over="ignore", invalid="ignore"):
            return sums.astype(values.dtype).reshape(groups, self.projection.width)
