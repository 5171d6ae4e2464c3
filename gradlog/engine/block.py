"""A block: some rows of some columns of a log's gradients, in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .parameter_range import ParameterRange


@dataclass
class Block:
    """One block: `values` (T, W) float32 or float64 in C order, the kept rows of `range`'s columns.

    start : index t of its first row; last : no later block has these columns
    """

    range_index: int
    range: ParameterRange
    start: int
    last: bool
    values: NDArray[Any]
    stored_bytes: int
    buffer: NDArray[np.uint8]
