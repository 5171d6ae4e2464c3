"""Ask for memory before it is read, from inside a compiled kernel."""

from __future__ import annotations

from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from .c_function import WITHOUT_JIT

LINE = 64
"""Bytes that memory hands over at once."""


def prefetch(block: NDArray[np.floating[Any]], row: int, column: int) -> None:
    """Nothing to do without the JIT."""


if not WITHOUT_JIT:

    @numba.extending.intrinsic
    def prefetch(typing_context: Any, block: Any, row: Any, column: Any) -> Any:  # noqa: ARG001
        """Start to bring the entry's line of memory into the first cache."""

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            helpers: Any = cgutils  # without types of its own
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            place = helpers.get_item_pointer(
                context, builder, signature.args[0], array, [arguments[1], arguments[2]]
            )
            byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
            function = helpers.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            # To be read, kept in all caches, data.
            builder.call(function, [builder.bitcast(place, byte), word(0), word(3), word(1)])
            return context.get_dummy_value()

        return numba.types.void(block, row, column), build
