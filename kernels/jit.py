"""The one wrapper around ``numba.njit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import config as _numba_config

from .cache import CACHE_FOLDER

config = cast(Any, _numba_config)  # its attributes are set at run time

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile `function` with Numba: no GIL, reductions free to be vectorized, NaN kept.

    ``reassoc`` and ``contract`` give the speed of fastmath without its assumption that there is no NaN.
    No exception leaves a kernel: division is the processor's own. It is for functions whose machine code
    `machine_code` keeps: Numba's own cache would not see changes to constants of other modules.
    """
    return _compiled(function, {"reassoc", "contract"}, cache=False)


def strict_kernel(function: Function) -> Function:
    """As `kernel`, with sums in the order written: the bits are the same on every processor.

    Kept in Numba's cache, so all constants and functions that it uses must stand in its own module.
    """
    return _compiled(function, set(), cache=CACHE_FOLDER is not None)


def _compiled(function: Function, fastmath: set[str], cache: bool) -> Function:
    previous = config.CACHE_DIR
    # Numba reads the setting at decoration; other users of Numba in this process keep theirs.
    config.CACHE_DIR = str(CACHE_FOLDER or "")
    try:
        wrap = numba.njit(cache=cache, nogil=True, fastmath=fastmath, error_model="numpy")
        return cast(Function, wrap(function))
    finally:
        config.CACHE_DIR = previous
