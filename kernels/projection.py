"""Random projection of rows: a sparse sign sketch whose buckets are cyclic shifts, so that it vectorizes.

M = s w sums stand in s groups of width w. In each group every coordinate goes to one sum with a random sign:
coordinates are taken in runs of w neighbours, and in group b coordinate i of run q goes to sum
(i + shift[q, b]) mod w. Nothing collides within a run, and two coordinates of different runs collide with
probability 1/w in each group. The projection S x is these sums divided by sqrt(s); what it does to norms and
inner products stands in `gradlog/projection.py`.

Signs and shifts come from a counter hash, splitmix64 (Steele, Lea, Flood 2014): every word is a function of a
base and a counter, the same on every machine and in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cache import compile_lock
from .jit import strict_kernel

Doubles = NDArray[np.float64]

SPAN = 2048
"""Columns whose signs are made at a time: 16 KB for 8 groups, beside a row's sums in the first cache."""

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_ZERO, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)


@strict_kernel
def _word(base: np.uint64, counter: np.uint64) -> np.uint64:
    """Word `counter` of splitmix64 from the state `base`."""
    z = base + (counter + _ONE) * _GAMMA
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return np.uint64(z ^ (z >> np.uint64(31)))


@strict_kernel
def _fill_signs(
    signs: NDArray[np.int8],
    shifts: NDArray[np.uint64],
    run: int,
    runs: int,
    sign_base: np.uint64,
    shift_base: np.uint64,
) -> None:
    """signs[r, b, k] : sign of the coordinate of run `run + r` that goes to sum k of group b."""
    groups, width = signs.shape[1], signs.shape[2]
    mask = np.uint64(width - 1)
    for r in range(runs):
        for b in range(groups):
            shifts[r, b] = _word(shift_base, np.uint64((run + r) * groups + b)) & mask
        for j in range(width):
            word = _word(sign_base, np.uint64((run + r) * width + j))
            for b in range(groups):
                bit = np.int64((word >> np.uint64(b)) & _ONE)
                place = (np.uint64(j) + shifts[r, b]) & mask
                signs[r, b, np.int64(place)] = 1 - 2 * bit


@strict_kernel
def _load_run(
    row: NDArray[np.floating[Any]], left: int, first: int, last: int, values: Doubles, at: int, width: int
) -> None:
    """The w coordinates from column `left` on, twice in a row from `at` on; 0 outside of the columns."""
    w, to = np.uint64(width), np.uint64(at)
    if left >= first and left + width <= last:
        start = np.uint64(left)
        for j in range(w):
            values[to + j] = row[start + j]
        for j in range(w):
            values[to + w + j] = row[start + j]
        return
    for i in range(width):
        value = 0.0
        if left + i >= first and left + i < last:
            value = np.float64(row[left + i])
        values[at + i] = value
        values[at + width + i] = value


@strict_kernel
def _add_runs(
    sums: Doubles,
    signs: NDArray[np.int8],
    shifts: NDArray[np.uint64],
    at: int,
    values: Doubles,
    groups: int,
    width: int,
) -> None:
    """Add runs `at` and `at + 1`, whose values stand twice each in `values`, to one row of sums."""
    # Unsigned numbers everywhere: no index can count from the end, and the loop vectorizes.
    w, s, r = np.uint64(width), np.uint64(groups), np.uint64(at)
    for b in range(s):
        turned = w - shifts[r, b]
        other = _THREE * w - shifts[r + _ONE, b]
        to = b * w
        sign = (r * s + b) * w
        sign_other = sign + s * w
        for k in range(w):
            sums[to + k] = (sums[to + k] + signs[sign + k] * values[turned + k]) + (
                signs[sign_other + k] * values[other + k]
            )


@strict_kernel
def project(
    block: NDArray[np.floating[Any]],
    first_row: int,
    last_row: int,
    first: int,
    last: int,
    index: int,
    sign_base: np.uint64,
    shift_base: np.uint64,
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
    sign_base, shift_base : states of the two streams of random words
    groups : s, at most 64
    sums : (T, M) float64, M = s w with w a power of two; added to
    """
    width = sums.shape[1] // groups
    most = max(2, SPAN // width)
    signs = np.empty((most, groups, width), np.int8)
    flat_signs = signs.ravel()
    shifts = np.zeros((most, groups), np.uint64)
    values = np.empty(4 * width)
    run = index // width
    stop = (index + last - first + width - 1) // width
    while run < stop:
        runs = min(most, stop - run)
        if runs % 2 == 1:
            signs[runs] = 0
        _fill_signs(signs, shifts, run, runs, sign_base, shift_base)
        left = first + run * width - index
        for i in range(first_row, last_row):
            row = block[i]
            out = sums[i]
            for r in range(0, runs, 2):
                _load_run(row, left + r * width, first, last, values, 0, width)
                _load_run(row, left + (r + 1) * width, first, last, values, 2 * width, width)
                _add_runs(out, flat_signs, shifts, r, values, groups, width)
        run += runs


def compile_projection(dtype: np.dtype[np.floating]) -> None:
    """Load the kernel for blocks of `dtype` from the cache, or compile it: once for all processes."""
    if not hasattr(project, "compile"):  # NUMBA_DISABLE_JIT
        return
    from numba import float64, from_dtype, int64, uint64

    entry = from_dtype(np.dtype(dtype))
    signature = (
        entry[:, ::1], int64, int64, int64, int64, int64, uint64, uint64, int64, float64[:, ::1],
    )  # fmt: skip
    with compile_lock():
        project.compile(signature)
