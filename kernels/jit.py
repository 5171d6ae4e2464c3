"""The one wrapper around ``numba.njit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile `function` with Numba: no GIL, reductions free to be vectorized, NaN kept.

    ``reassoc`` and ``contract`` give the speed of fastmath without its assumption that there is no NaN.
    No exception leaves a kernel: division is the processor's own. It is for functions whose machine code
    `machine_code` keeps: Numba's own cache would not see changes to constants of other modules.
    """
    return _compiled(function, {"reassoc", "contract"})


def strict_kernel(function: Function) -> Function:
    """As `kernel`, with sums in the order written: the bits are the same on every processor."""
    return _compiled(function, set())


def _compiled(function: Function, fastmath: set[str]) -> Function:
    wrap = numba.njit(nogil=True, fastmath=fastmath, error_model="numpy")
    return cast(Function, wrap(function))
