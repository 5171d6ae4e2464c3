"""bfloat16 stored as uint16, widened to float32 without rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """float32 with the value of each bfloat16 bit pattern: its 16 bits are float32's upper half."""
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)
