"""Gram matrix over few rows, in one pass over them: no copy in double precision, and no call of BLAS.

For so few rows BLAS spends its time on bringing them into another form.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .c_function import WITHOUT_JIT, c_function

MOST_ROWS = 32
"""Of more rows BLAS is as fast."""
SPAN_COLUMNS = 384
"""Columns that are taken in double precision at a time: all rows fit the second cache, and those of which
products are taken the first."""


def short_gram(block: NDArray[np.floating[Any]], row: int, first: int, last: int) -> NDArray[np.float64]:
    """(R, R) float64 inner products of the R = T - row rows from `row` on, over columns first .. last - 1.

    block : (T, W) float32 or float64, C order; products and sums are float64
    """
    rows, columns = block.shape
    count = rows - row
    if count < 1:
        return np.zeros((0, 0))
    # Four rows are taken at a time: rows of zeros fill the last ones up.
    held = -(-count // 4) * 4
    values = np.zeros((held, SPAN_COLUMNS))
    gram = np.zeros((held, held))
    if not 0 <= row <= rows or not 0 <= first <= last <= columns or not block.flags.c_contiguous:
        raise ValueError(f"rows from {row} on and columns {first} to {last} of {block.shape}")
    if WITHOUT_JIT:
        from .short_gram_jit import add_products

        add_products(block, row, first, last, values, gram)
    else:
        compile_short_gram(block.dtype)(
            block.ctypes.data, rows, columns, row, first, last, values.ctypes.data, values.shape[1],
            gram.ctypes.data, held,
        )  # fmt: skip
    lower = np.tril(gram[:count, :count])
    return lower + np.tril(lower, -1).T


def compile_short_gram(dtype: np.dtype[np.floating[Any]] | type[np.floating[Any]]) -> Any:
    """The C function for blocks of `dtype`, from the cache or compiled: once for all processes."""
    if WITHOUT_JIT:
        return None
    return c_function("short_gram", np.dtype(dtype), _ARGUMENTS, ())


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = (_POINTER, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE)
