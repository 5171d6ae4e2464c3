"""The Numba side of `short_gram`: imported only where the kernel is compiled, or runs without the JIT."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .jit import kernel

Doubles = NDArray[np.float64]


@kernel
def _products_16(
    left: Doubles, right: Doubles, i: int, j: int, width: int
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Inner products of rows i to i + 3 of `left` with rows j to j + 3 of `right`."""
    s, t, u, v = left[i, :width], left[i + 1, :width], left[i + 2, :width], left[i + 3, :width]
    a, b, c, d = right[j, :width], right[j + 1, :width], right[j + 2, :width], right[j + 3, :width]
    sa = sb = sc = sd = ta = tb = tc = td = ua = ub = uc = ud = va = vb = vc = vd = 0.0
    for k in range(width):
        x = a[k]
        y = b[k]
        z = c[k]
        w = d[k]
        sa += s[k] * x
        sb += s[k] * y
        sc += s[k] * z
        sd += s[k] * w
        ta += t[k] * x
        tb += t[k] * y
        tc += t[k] * z
        td += t[k] * w
        ua += u[k] * x
        ub += u[k] * y
        uc += u[k] * z
        ud += u[k] * w
        va += v[k] * x
        vb += v[k] * y
        vc += v[k] * z
        vd += v[k] * w
    return (sa, sb, sc, sd), (ta, tb, tc, td), (ua, ub, uc, ud), (va, vb, vc, vd)


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
        for i in range(0, held, 4):
            for j in range(0, i + 4, 4):
                products = _products_16(values, values, i, j, width)
                for m in range(4):
                    for n in range(4):
                        gram[i + m, j + n] += products[m][n]
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
