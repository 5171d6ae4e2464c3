"""The Numba side of `column_energies`: imported only where it is compiled, or runs without the JIT."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import strict_kernel
from .octave_layout import FIRST_OCTAVE

Doubles = NDArray[np.float64]

PANEL = 1024
"""Columns whose energies stay in the first cache."""
EXPONENT_BITS, MANTISSA_BITS, BIAS = 0x7FF, 52, 1022
SMALLEST_NORMAL = 2.0**-1022
"""Smaller ones don't have their exponent in their bits."""


@strict_kernel
def column_energies(
    values: NDArray[np.floating[Any]], energies: Doubles, bits: NDArray[np.int64], table: Doubles
) -> None:
    """Add squares to `energies` (W,), then their numbers and sums by octave to `table` (2, OCTAVES or 0).

    values : (T, W or more); bits : the memory of `energies`
    """
    width = energies.size
    for left in range(0, width, PANEL):
        right = min(left + PANEL, width)
        some = energies[left:right]
        for t in range(values.shape[0]):
            row = values[t, left:right]
            for j in range(some.size):
                value = np.float64(row[j])
                some[j] += value * value
    if table.shape[1] == 0:
        return
    for j in range(width):
        energy = energies[j]
        if energy > 0:
            octave = ((bits[j] >> MANTISSA_BITS) & EXPONENT_BITS) - BIAS
            if energy < SMALLEST_NORMAL:
                octave = 1 - BIAS
                least = SMALLEST_NORMAL
                while energy < least:
                    least /= 2
                    octave -= 1
            table[0, octave - FIRST_OCTAVE] += 1.0
            table[1, octave - FIRST_OCTAVE] += energy


def c_module(dtype: np.dtype[np.floating[Any]]) -> tuple[str, str]:
    """(symbol, LLVM module) of `column_energies` as a C function, for values of `dtype`."""
    nb: Any = numba  # without types of its own
    pointer, carray = nb.types.CPointer, nb.carray
    doubles, size = pointer(nb.float64), nb.int64

    @nb.cfunc(nb.void(pointer(nb.from_dtype(dtype)), size, size, size, doubles, doubles, size))
    def entry(values, rows, step, width, energies, table, octaves):  # type: ignore[no-untyped-def]
        held = carray(energies, (width,))
        column_energies(carray(values, (rows, step)), held, held.view(np.int64), carray(table, (2, octaves)))

    return entry.native_name, entry.inspect_llvm()
