"""The kernel of `projection.py`, for Numba. Numba is imported only where its machine code isn't there yet."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import strict_kernel

Doubles = NDArray[np.float64]

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
def projected_sums(
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
    signs: NDArray[np.int8],
    flat_signs: NDArray[np.int8],
    shifts: NDArray[np.uint64],
    values: Doubles,
) -> None:
    """As `projection.project`, with room to work in, since machine code that is kept must not own memory.

    signs : (runs, s, w) int8, for at least 2 runs; flat_signs : the same memory; shifts : (runs, s) uint64;
    values : (4 w,) float64
    """
    width = sums.shape[1] // groups
    most = signs.shape[0]
    run = index // width
    stop = (index + last - first + width - 1) // width
    while run < stop:
        runs = min(most, stop - run)
        if runs % 2 == 1:
            signs[runs] = 0
            shifts[runs] = _ZERO
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


def c_module(dtype: np.dtype[np.floating[Any]]) -> tuple[str, str]:
    """(symbol, LLVM module) of `projected_sums` as a C function, for blocks of `dtype`."""
    nb: Any = numba  # without types of its own
    pointer, carray = nb.types.CPointer, nb.carray
    doubles, size, word = pointer(nb.float64), nb.int64, nb.uint64
    signature = nb.void(
        pointer(nb.from_dtype(dtype)), size, size, size, size, size, size, size, word, word, size,
        doubles, size, pointer(nb.int8), pointer(word), size, doubles,
    )  # fmt: skip

    @nb.cfunc(signature)
    def entry(  # type: ignore[no-untyped-def]
        block, rows, columns, first_row, last_row, first, last, index, sign_base, shift_base, groups,
        sums, dim, signs, shifts, runs, values,
    ):  # fmt: skip
        projected_sums(
            carray(block, (rows, columns)),
            first_row,
            last_row,
            first,
            last,
            index,
            sign_base,
            shift_base,
            groups,
            carray(sums, (rows, dim)),
            carray(signs, (runs, groups, dim // groups)),
            carray(signs, (runs * dim,)),
            carray(shifts, (runs, groups)),
            carray(values, (4 * (dim // groups),)),
        )

    return entry.native_name, entry.inspect_llvm()
