"""Series in which NaN stands for a value that is not known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_of_known(values: NDArray[np.float64]) -> float | None:
    """Mean of the finite values, whatever their shape; None where there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
