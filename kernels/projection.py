"""Random projection of rows: a sparse sign sketch whose buckets are cyclic shifts, so that it vectorizes.

M = s w sums stand in s groups of width w. In each group every coordinate goes to one sum with a random sign:
coordinates are taken in runs of w neighbours, and in group b coordinate i of run q goes to sum
(i + shift[q, b]) mod w with the sign sign[i] turn[q, b]. Nothing collides within a run, and two coordinates
of different runs collide with probability 1/w in each group. The projection S x is these sums divided by
sqrt(s); what it does to norms and inner products stands in `gradlog/results/projection.py`.

A coordinate's sign is one for all groups: it is put on once, and the rest is adding whole runs or taking them
away. Signs, shifts and turns come from a counter hash, splitmix64 (Steele, Lea, Flood 2014): every word is a
function of a base and a counter, the same on every machine and in any order. A word of the first stream has
the signs of 64 coordinates, one of the second the shift and the turn of a run in a group.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .c_function import WITHOUT_JIT, c_function

Doubles = NDArray[np.float64]

SPAN, MOST_RUNS = 8192, 256
"""Columns whose random words are drawn at a time, or runs where that is less: for all rows, and few enough to
stay in the first cache beside a row's sums."""


def project(
    block: NDArray[np.floating[Any]],
    first_row: int,
    last_row: int,
    first: int,
    last: int,
    index: int,
    sign_base: np.uint64,
    run_base: np.uint64,
    groups: int,
    sums: Doubles,
) -> None:
    """Add the unscaled projections of columns first .. last - 1 of some rows of a block to `sums`.

    Rows don't depend on each other, and every sum takes its coordinates one after the other: the bits depend
    neither on how rows or columns are split nor on how many lanes the processor has.

    Parameters
    ----------
    block : (T, W) float32 or float64, C order
    first_row, last_row : rows first_row .. last_row - 1 are projected
    index : index of the first column among its tensor's coordinates; the others follow it
    sign_base, run_base : states of the streams of random words of coordinates, and of runs
    groups : s
    sums : (T, M) float64, M = s w with w a power of two; added to
    """
    rows, columns = block.shape
    dim = sums.shape[1]
    width = dim // groups
    runs = max(4, min(MOST_RUNS, SPAN // width))
    values = np.empty(8 * width, block.dtype)
    signs = np.empty(runs * width // 64 + 2, np.uint64)
    shifts = np.empty((runs, groups), np.uint64)
    turns = np.empty((runs, groups))
    if WITHOUT_JIT:
        from .projection_jit import projected_sums

        with np.errstate(over="ignore"):
            projected_sums(
                block, first_row, last_row, first, last, index, sign_base, run_base,
                sums, values, signs, shifts, turns,
            )  # fmt: skip
        return
    for array in (block, sums):
        if not array.flags.c_contiguous:
            raise ValueError("blocks and sums must be in C order")
    if sums.shape[0] != rows or not 0 <= first_row <= last_row <= rows or not 0 <= first <= last <= columns:
        raise ValueError(f"rows {first_row} to {last_row} and columns {first} to {last} of {block.shape}")
    compile_projection(block.dtype)(
        block.ctypes.data, rows, columns, first_row, last_row, first, last, index,
        int(sign_base), int(run_base), groups, sums.ctypes.data, dim, values.ctypes.data,
        signs.ctypes.data, signs.size, shifts.ctypes.data, turns.ctypes.data, runs,
    )  # fmt: skip


def compile_projection(dtype: np.dtype[np.floating[Any]] | type[np.floating[Any]]) -> Any:
    """The C function for blocks of `dtype`, from the cache or compiled: once for all processes."""
    if WITHOUT_JIT:
        return None
    return c_function("projection", np.dtype(dtype), _ARGUMENTS, ())


_POINTER, _SIZE, _WORD = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64
_ARGUMENTS = (
    _POINTER, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _WORD, _WORD, _SIZE,
    _POINTER, _SIZE, _POINTER, _POINTER, _SIZE, _POINTER, _POINTER, _SIZE,
)  # fmt: skip
