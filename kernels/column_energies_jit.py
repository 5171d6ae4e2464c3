"""The Numba side of `column_energies`: imported only where it is compiled, or runs without the JIT."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import strict_kernel

PANEL = 1024
"""Columns whose energies stay in the first cache."""


@strict_kernel
def add_squares(values: NDArray[np.floating[Any]], energies: NDArray[np.float64]) -> None:
    """Add the squares of columns to `energies` (W,). values : (T, W or more)"""
    for left in range(0, energies.size, PANEL):
        some = energies[left : left + PANEL]
        for t in range(values.shape[0]):
            row = values[t, left : left + some.size]
            for j in range(some.size):
                value = np.float64(row[j])
                some[j] += value * value


def c_module(dtype: np.dtype[np.floating[Any]]) -> tuple[str, str]:
    """(symbol, LLVM module) of `add_squares` as a C function, for values of `dtype`."""
    nb: Any = numba  # without types of its own
    pointer, carray, size = nb.types.CPointer, nb.carray, nb.int64

    @nb.cfunc(nb.void(pointer(nb.from_dtype(dtype)), size, size, size, pointer(nb.float64)))
    def entry(values, rows, step, width, energies):  # type: ignore[no-untyped-def]
        add_squares(carray(values, (rows, step)), carray(energies, (width,)))

    return entry.native_name, entry.inspect_llvm()
