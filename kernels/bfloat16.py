"""bfloat16 stored as uint16, widened to float32 without rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """float32 with the value of each bfloat16 bit pattern: its 16 bits are float32's upper half."""
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


CHUNK = 1 << 16
"""Entries that are widened at once: they stay in the second cache."""


def widen_into(bits: NDArray[np.uint16], out: NDArray[np.floating[Any]]) -> None:
    """Put the values of (R, W) bit patterns into `out` (R, W) float32 or float64, without memory of its own.

    The last axis of a float32 `out` lies in one piece.
    """
    if out.dtype != np.float32:
        out[...] = widen(bits)
        return
    words = out.view(np.uint32)
    rows, columns = bits.shape
    height = max(1, CHUNK // max(1, columns))
    for row in range(0, rows, height):
        for first in range(0, columns, CHUNK):
            where = slice(row, row + height), slice(first, first + CHUNK)
            part = words[where]
            part[...] = bits[where]
            part <<= np.uint32(16)
