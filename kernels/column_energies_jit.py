"""The Numba side of `column_energies`: imported only where it is compiled, or runs without the JIT."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import strict_kernel
from .octave_layout import LEAST_OCTAVE

PANEL = 1024
"""Columns whose energies stay in the first cache."""
MANTISSA, EXPONENTS, BIAS = 52, 0x7FF, 1022
"""Bits of a float64 below its exponent, all bits of that, and what it exceeds the k of [2^(k-1), 2^k) by."""


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


@strict_kernel
def _octave(bits: int) -> int:
    """k of [2^(k-1), 2^k); 0 of infinity, as `frexp` has it. bits : of a float64 > 0"""
    exponent = bits >> MANTISSA
    if exponent == EXPONENTS:
        return 0
    if exponent > 0:
        return int(exponent - BIAS)
    octave = LEAST_OCTAVE - 1
    while bits > 0:  # as many octaves as bits
        bits >>= 1
        octave += 1
    return octave


@strict_kernel
def count_octaves(energies: NDArray[np.float64], bits: NDArray[np.int64], table: NDArray[np.float64]) -> None:
    """Octaves, numbers and sums of the energies > 0 in the first rows of `table`, whose last says how many.

    bits : (W,), the same memory as `energies`; table : (OCTAVES + 1, 3), or without rows, for nothing
    """
    if table.shape[0] == 0:
        return
    first, last = table.shape[0], -1
    for j in range(energies.size):
        if energies[j] > 0:
            at = _octave(bits[j]) - LEAST_OCTAVE
            first, last = min(first, at), max(last, at)
    for at in range(first, last + 1):
        table[at, 1] = table[at, 2] = 0.0
    for j in range(energies.size):
        if energies[j] > 0:
            at = _octave(bits[j]) - LEAST_OCTAVE
            table[at, 1] += 1.0
            table[at, 2] += energies[j]
    found = 0
    for at in range(first, last + 1):
        if table[at, 1] > 0:
            table[found, 0] = at + LEAST_OCTAVE
            table[found, 1], table[found, 2] = table[at, 1], table[at, 2]
            found += 1
    table[-1, 0] = found


def c_module(dtype: np.dtype[np.floating[Any]]) -> tuple[str, str]:
    """(symbol, LLVM module) of both as a C function, for values of `dtype`."""
    nb: Any = numba  # without types of its own
    pointer, carray, size = nb.types.CPointer, nb.carray, nb.int64
    numbers = pointer(nb.float64)

    @nb.cfunc(nb.void(pointer(nb.from_dtype(dtype)), size, size, size, numbers, pointer(size), numbers, size))
    def entry(values, rows, step, width, energies, bits, table, octaves):  # type: ignore[no-untyped-def]
        add_squares(carray(values, (rows, step)), carray(energies, (width,)))
        count_octaves(carray(energies, (width,)), carray(bits, (width,)), carray(table, (octaves, 3)))

    return entry.native_name, entry.inspect_llvm()
