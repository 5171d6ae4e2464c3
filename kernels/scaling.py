"""Powers of two that bring numbers near 1, so that what is made of them stays within float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def binary_exponents(largest: NDArray[np.float64]) -> NDArray[np.int32]:
    """e with 2^(e-1) <= `largest` < 2^e, for each finite value; 0 for 0 and below.

    `np.ldexp(values, -e)` then divides without rounding.
    """
    return np.where(largest > 0.0, np.frexp(largest)[1], np.int32(0))


def binary_exponent(largest: float) -> int:
    """`binary_exponents` of one number."""
    return int(binary_exponents(np.array(largest)))
