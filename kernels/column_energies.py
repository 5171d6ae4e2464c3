"""Sums of squares by column, and how columns share them by octave: in one pass over a tile each."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .c_function import WITHOUT_JIT, c_function
from .octave_layout import FIRST_OCTAVE, OCTAVES

Doubles = NDArray[np.float64]


def add_column_energies(values: NDArray[np.floating[Any]], energies: Doubles) -> None:
    """Add the squares of each column, row after row, so that neither blocks nor neighbours change a bit.

    values : (T, W) float32 or float64, rows that each lie in one piece; energies : (W,) float64, added to
    """
    if energies.shape != values.shape[1:] or not energies.flags.c_contiguous:
        raise ValueError(f"energies of shape {energies.shape} for {values.shape}")
    if values.size and values.shape[1] > 1 and values.strides[1] != values.itemsize:
        raise ValueError(f"rows in pieces: strides {values.strides}")
    _call(values, energies, np.zeros((2, 0)))


def energy_octaves(energies: Doubles) -> Doubles:
    """(G, 3) float64: k, how many energies lie in [2^(k-1), 2^k), and their sum, of each k that has any.

    energies : (W,) float64, of which those that are 0 count nowhere
    """
    table = np.zeros((2, OCTAVES))
    _call(np.zeros((0, energies.size), np.float32), energies, table)  # a type that is compiled anyway
    held = np.flatnonzero(table[0])
    return np.stack([held + float(FIRST_OCTAVE), table[0, held], table[1, held]], axis=1)


def _call(values: NDArray[np.floating[Any]], energies: Doubles, table: Doubles) -> None:
    rows, width = values.shape
    if WITHOUT_JIT:
        from .column_energies_jit import column_energies

        column_energies(values, energies, energies.view(np.int64), table)
        return
    step = values.strides[0] // values.itemsize if rows > 1 else width
    compile_column_energies(values.dtype)(
        values.ctypes.data, rows, step, width, energies.ctypes.data, table.ctypes.data, table.shape[1]
    )


def compile_column_energies(dtype: np.dtype[np.floating[Any]] | type[np.floating[Any]]) -> Any:
    """The C function for values of `dtype`, from the cache or compiled: once for all processes."""
    if WITHOUT_JIT:
        return None
    return c_function("column_energies", np.dtype(dtype), _ARGUMENTS, ("octave_layout",))


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = (_POINTER, _SIZE, _SIZE, _SIZE, _POINTER, _POINTER, _SIZE)
