"""The kernel of `projection.py`, for Numba. Numba is imported only where its machine code isn't there yet."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import strict_kernel

Doubles = NDArray[np.float64]
Gradients = NDArray[np.floating[Any]]
Words = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_ZERO, _ONE, _TWO, _THREE = (np.uint64(number) for number in range(4))
_FIVE, _SEVEN = np.uint64(5), np.uint64(7)
_SIX, _HALF, _BITS, _INSIDE = np.uint64(6), np.uint64(32), np.uint64(64), np.uint64(63)


@strict_kernel
def _word(base: np.uint64, counter: np.uint64) -> np.uint64:
    """Word `counter` of splitmix64 from the state `base`."""
    z = base + (counter + _ONE) * _GAMMA
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return np.uint64(z ^ (z >> np.uint64(31)))


@strict_kernel
def _draw(
    signs: Words,
    shifts: Words,
    turns: Doubles,
    run: int,
    runs: int,
    width: int,
    sign_base: np.uint64,
    run_base: np.uint64,
) -> None:
    """The random words of some runs from `run` on.

    signs : a bit for each coordinate, from the word on that holds the first; shifts, turns : (runs, s)
    """
    groups = shifts.shape[1]
    mask = np.uint64(width - 1)
    for r in range(runs):
        for b in range(groups):
            word = _word(run_base, np.uint64((run + r) * groups + b))
            shifts[r, b] = word & mask
            turns[r, b] = 1.0 - 2.0 * np.float64(word >> _INSIDE)
    first = run * width // 64
    for c in range(((run + runs) * width + 63) // 64 - first):
        signs[c] = _word(sign_base, np.uint64(first + c))


@strict_kernel
def _load(
    row: Gradients, start: int, count: int, signs: Words, bit: int, values: Gradients, at: int, width: int
) -> None:
    """`count` coordinates with their signs, to `values` from `at` on, and w places further once more.

    start : column of the first; bit : that its sign is, among all of `signs`
    """
    # Unsigned numbers everywhere: no index can count from the end, and the loops vectorize.
    place, to, again = np.uint64(start), np.uint64(at), np.uint64(at + width)
    left, sign = np.uint64(count), np.uint64(bit)
    while left > _ZERO:
        inside = sign & _INSIDE
        word = signs[sign >> _SIX] >> inside
        step = min(left, _BITS - inside)
        if step >= _HALF:
            step = _HALF
            for j in range(_HALF):
                value = row[place + j]
                if (word >> np.uint64(j)) & _ONE:
                    value = -value
                values[to + j] = value
                values[again + j] = value
        else:
            for j in range(step):
                value = row[place + j]
                if (word >> np.uint64(j)) & _ONE:
                    value = -value
                values[to + j] = value
                values[again + j] = value
        place, to, again = place + step, to + step, again + step
        left, sign = left - step, sign + step


@strict_kernel
def _add_four(sums: Doubles, shifts: Words, turns: Doubles, at: int, values: Gradients, width: int) -> None:
    """Add the whole runs at, ... at + 3, whose values stand twice each in `values`, to one row of sums."""
    w = np.uint64(width)
    for group in range(shifts.shape[1]):
        to = np.uint64(group) * w
        first, second = w - shifts[at, group], _THREE * w - shifts[at + 1, group]
        third, fourth = _FIVE * w - shifts[at + 2, group], _SEVEN * w - shifts[at + 3, group]
        a, b, c, d = turns[at, group], turns[at + 1, group], turns[at + 2, group], turns[at + 3, group]
        for k in range(w):
            total = sums[to + k] + a * values[first + k]
            total = total + b * values[second + k]
            total = total + c * values[third + k]
            sums[to + k] = total + d * values[fourth + k]


@strict_kernel
def _add_two(sums: Doubles, shifts: Words, turns: Doubles, at: int, values: Gradients, width: int) -> None:
    """The same for the two whole runs at and at + 1."""
    w = np.uint64(width)
    for group in range(shifts.shape[1]):
        to = np.uint64(group) * w
        first, second = w - shifts[at, group], _THREE * w - shifts[at + 1, group]
        a, b = turns[at, group], turns[at + 1, group]
        for k in range(w):
            total = sums[to + k] + a * values[first + k]
            sums[to + k] = total + b * values[second + k]


@strict_kernel
def _add_parts(
    sums: Doubles,
    shifts: Words,
    turns: Doubles,
    at: int,
    values: Gradients,
    begin: int,
    end: int,
    width: int,
) -> None:
    """Add the coordinates begin .. end - 1 of run `at` and those behind it to one row of sums.

    begin, end : counted from the beginning of run `at`; values : as of `_add_four`, where they are in there
    """
    w, number = np.uint64(width), np.uint64(end)
    for b in range(shifts.shape[1]):
        group = np.uint64(b) * w
        inside, run = np.uint64(begin), _ZERO
        while run * w < number:
            stop = min(w, number - run * w)
            shift, turn = shifts[np.uint64(at) + run, b], turns[np.uint64(at) + run, b]
            from_, to = _TWO * run * w, group + shift
            whole = min(stop, max(inside, w - shift))  # the others go round
            for k in range(inside, whole):
                sums[to + k] += turn * values[from_ + k]
            for k in range(whole, stop):
                sums[to + k - w] += turn * values[from_ + k]
            inside, run = _ZERO, run + _ONE


@strict_kernel
def projected_sums(
    block: Gradients,
    first_row: int,
    last_row: int,
    first: int,
    last: int,
    index: int,
    sign_base: np.uint64,
    run_base: np.uint64,
    sums: Doubles,
    values: Gradients,
    signs: Words,
    shifts: Words,
    turns: Doubles,
) -> None:
    """As `projection.project`, with room to work in, since machine code that is kept must not own memory.

    values : (8 w,) of the block's dtype; signs : (runs w / 64 + 2,) uint64; shifts, turns : (runs, s) uint64
    and float64, for at least 4 runs
    """
    most, groups = shifts.shape
    width = sums.shape[1] // groups
    run = index // width
    stop = (index + last - first + width - 1) // width
    while run < stop:
        runs = min(most, stop - run)
        _draw(signs, shifts, turns, run, runs, width, sign_base, run_base)
        left = first + run * width - index
        origin = run * width % 64
        for i in range(first_row, last_row):
            row = block[i]
            out = sums[i]
            r = 0
            while r < runs:
                start = left + r * width
                count = min(4, runs - r)
                begin, end = max(first - start, 0), min(last - start, count * width)
                for n in range(count):
                    inside = max(begin - n * width, 0)
                    place, size = n * width + inside, min(end - n * width, width) - inside
                    at = 2 * n * width + inside
                    _load(row, start + place, size, signs, origin + r * width + place, values, at, width)
                if begin == 0 and end == 4 * width:
                    _add_four(out, shifts, turns, r, values, width)
                elif begin == 0 and end == 2 * width:
                    _add_two(out, shifts, turns, r, values, width)
                else:
                    _add_parts(out, shifts, turns, r, values, begin, end, width)
                r += 4
        run += runs


def c_module(dtype: np.dtype[np.floating[Any]]) -> tuple[str, str]:
    """(symbol, LLVM module) of `projected_sums` as a C function, for blocks of `dtype`."""
    nb: Any = numba  # without types of its own
    pointer, carray = nb.types.CPointer, nb.carray
    gradients, size, word = pointer(nb.from_dtype(dtype)), nb.int64, nb.uint64
    doubles, words = pointer(nb.float64), pointer(word)
    signature = nb.void(
        gradients, size, size, size, size, size, size, size, word, word, size,
        doubles, size, gradients, words, size, words, doubles, size,
    )  # fmt: skip

    @nb.cfunc(signature)
    def entry(  # type: ignore[no-untyped-def]
        block, rows, columns, first_row, last_row, first, last, index, sign_base, run_base, groups,
        sums, dim, values, signs, sign_words, shifts, turns, runs,
    ):  # fmt: skip
        projected_sums(
            carray(block, (rows, columns)),
            first_row,
            last_row,
            first,
            last,
            index,
            sign_base,
            run_base,
            carray(sums, (rows, dim)),
            carray(values, (8 * (dim // groups),)),
            carray(signs, (sign_words,)),
            carray(shifts, (runs, groups)),
            carray(turns, (runs, groups)),
        )

    return entry.native_name, entry.inspect_llvm()
