"""The part of a log that enters an analysis: its tensors, and the training step of each row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .row_kind import RowKind, row_kind


@dataclass(frozen=True)
class Scope:
    """A tensor by name, parameter shape and stored type.

    sums : how many stand for its parameters, where it is a sketch
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    sums: int | None = None

    @property
    def entries(self) -> int:
        """Columns that it has in the store."""
        return self.parameters if self.sums is None else self.sums

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Selection:
    """What was selected of a log.

    step : (N,) int64, training step of each row that entered the analysis
    series : (N,) float64 each, its loss and lr by name; None where they are not known
    """

    path: str
    attributes: Mapping[str, Any]
    tensors: Sequence[Scope]
    step: NDArray[np.int64]
    series: Mapping[str, NDArray[np.float64]] | None = None

    @property
    def kind(self) -> RowKind:
        """What the rows are."""
        return row_kind(self.attributes)

    @property
    def parameters(self) -> int:
        """Number of parameters of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors)
