"""The Numba side of `short_gram`: imported only where the kernel is compiled, or runs without the JIT."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import kernel

Doubles = NDArray[np.float64]


@kernel
def _products_8(
    x: Doubles, y: Doubles, a: Doubles, b: Doubles, c: Doubles, d: Doubles
) -> tuple[float, float, float, float, float, float, float, float]:
    """Inner products of x and y with a, b, c and d."""
    xa = xb = xc = xd = ya = yb = yc = yd = 0.0
    for k in range(x.size):
        u = x[k]
        v = y[k]
        xa += u * a[k]
        xb += u * b[k]
        xc += u * c[k]
        xd += u * d[k]
        ya += v * a[k]
        yb += v * b[k]
        yc += v * c[k]
        yd += v * d[k]
    return xa, xb, xc, xd, ya, yb, yc, yd


@kernel
def add_products(
    block: NDArray[np.floating[Any]], row: int, first: int, last: int, values: Doubles, gram: Doubles
) -> None:
    """Add the products of rows to `gram` (R, R), at and below its diagonal; what stands above is any.

    values : (R, S) scratch for S columns, zeros in the rows past those of the block; R a multiple of 4
    """
    held, span = values.shape
    count = block.shape[0] - row
    left = first
    while left < last:
        width = min(span, last - left)
        for i in range(count):
            source = block[row + i]
            for k in range(width):
                values[i, k] = source[left + k]
        for i in range(0, held, 2):
            x = values[i, :width]
            y = values[i + 1, :width]
            for j in range(0, i + 2, 4):
                xa, xb, xc, xd, ya, yb, yc, yd = _products_8(
                    x,
                    y,
                    values[j, :width],
                    values[j + 1, :width],
                    values[j + 2, :width],
                    values[j + 3, :width],
                )
                gram[i, j] += xa
                gram[i, j + 1] += xb
                gram[i, j + 2] += xc
                gram[i, j + 3] += xd
                gram[i + 1, j] += ya
                gram[i + 1, j + 1] += yb
                gram[i + 1, j + 2] += yc
                gram[i + 1, j + 3] += yd
        left += width


def c_module(dtype: np.dtype[np.floating[Any]]) -> tuple[str, str]:
    """(symbol, LLVM module) of `add_products` as a C function, for blocks of `dtype`."""
    nb: Any = numba  # without types of its own
    pointer, carray = nb.types.CPointer, nb.carray
    doubles, size = pointer(nb.float64), nb.int64
    signature = nb.void(
        pointer(nb.from_dtype(dtype)), size, size, size, size, size, doubles, size, doubles, size
    )

    @nb.cfunc(signature)
    def entry(block, rows, columns, row, first, last, values, span, gram, held):  # type: ignore[no-untyped-def]
        add_products(
            carray(block, (rows, columns)),
            row,
            first,
            last,
            carray(values, (held, span)),
            carray(gram, (held, held)),
        )

    return entry.native_name, entry.inspect_llvm()
