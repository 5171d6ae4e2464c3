"""Kernels as C functions, each compiled once for all processes."""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np

WITHOUT_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
"""Kernels then run as plain Python."""


@functools.cache
def c_function(kernel: str, dtype: np.dtype[Any], arguments: tuple[Any, ...], others: tuple[str, ...]) -> Any:
    """The C function of a kernel for blocks of `dtype`, from the cache or compiled.

    kernel : name of the module beside this one; `KERNEL_jit` has `c_module(dtype)`, which compiles it
    arguments : ctypes of the function, which returns nothing; like all of ctypes, it lets the GIL go
    others : further modules that the machine code follows from
    """
    from .machine_code import address_of

    def compiled() -> tuple[str, str]:
        module = importlib.import_module(f"{__package__}.{kernel}_jit")
        symbol, text = module.c_module(dtype)
        return symbol, text

    names = (kernel, f"{kernel}_jit", *others, "jit")
    sources = [Path(__file__).with_name(f"{name}.py") for name in names]
    return ctypes.CFUNCTYPE(None, *arguments)(address_of(f"{kernel}-{dtype}", sources, compiled))
