"""Sums of squares by column, in one pass over a tile, and how many are of which order of magnitude."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .c_function import WITHOUT_JIT, c_function
from .octave_layout import OCTAVES

Doubles = NDArray[np.float64]


def add_column_energies(values: NDArray[np.floating[Any]], energies: Doubles) -> None:
    """Add the squares of each column, row after row, so that neither blocks nor neighbours change a bit.

    values : (T, W) float32 or float64, rows that each lie in one piece; energies : (W,) float64, added to
    """
    _add(values, energies, np.empty((0, 3)))


def energies_by_octave(values: NDArray[np.floating[Any]], energies: Doubles) -> Doubles:
    """Add as `add_column_energies`; (G, 3) float64, of the octaves [2^(k-1), 2^k) that any energy lies in.

    k, how many energies lie in it, and their sum; 0 lies in none.
    """
    table = np.empty((OCTAVES + 1, 3))
    _add(values, energies, table)
    return table[: int(table[-1, 0])].copy()


def _add(values: NDArray[np.floating[Any]], energies: Doubles, table: Doubles) -> None:
    rows, width = values.shape
    if energies.shape != (width,) or not energies.flags.c_contiguous:
        raise ValueError(f"energies of shape {energies.shape} for {values.shape}")
    if values.size and width > 1 and values.strides[1] != values.itemsize:
        raise ValueError(f"rows in pieces: strides {values.strides}")
    if WITHOUT_JIT:
        from .column_energies_jit import add_squares, count_octaves

        add_squares(values, energies)
        count_octaves(energies, energies.view(np.int64), table)
        return
    step = values.strides[0] // values.itemsize if rows > 1 else width
    compile_column_energies(values.dtype)(
        values.ctypes.data, rows, step, width, energies.ctypes.data, energies.ctypes.data,
        table.ctypes.data, len(table),
    )  # fmt: skip


def compile_column_energies(dtype: np.dtype[np.floating[Any]] | type[np.floating[Any]]) -> Any:
    """The C function for values of `dtype`, from the cache or compiled: once for all processes."""
    if WITHOUT_JIT:
        return None
    return c_function("column_energies", np.dtype(dtype), _ARGUMENTS, ("octave_layout",))


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = (_POINTER, _SIZE, _SIZE, _SIZE, _POINTER, _POINTER, _POINTER, _SIZE)
