"""The one wrapper around ``numba.njit``, and where compiled kernels are cached."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config as _numba_config

config = cast(Any, _numba_config)  # its attributes are set at run time

Function = TypeVar("Function", bound=Callable[..., Any])

config = cast(Any, _numba_config)

LOCK_WAIT_SECONDS = 120.0
"""A kernel compiles in seconds; past this wait the holder is taken for dead and compiling goes on."""


def _cache_folder() -> Path | None:
    """The folder for compiled kernels, by version; None where nothing can be written."""
    if config.CACHE_DIR:  # the user's own NUMBA_CACHE_DIR
        base = Path(config.CACHE_DIR)
    else:
        root = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        version = f"numba-{numba.__version__}-py{sys.version_info.major}.{sys.version_info.minor}"
        base = Path(root) / "gradmf" / version
    try:
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=base):
            pass
    except OSError:
        return None
    return base


CACHE_FOLDER = _cache_folder()


def kernel(function: Function) -> Function:
    """Compile `function` with Numba: no GIL, cached, reductions free to be vectorized, NaN kept.

    ``reassoc`` and ``contract`` give the speed of fastmath without its assumption that there is no NaN.
    """
    return _compiled(function, {"reassoc", "contract"})


def strict_kernel(function: Function) -> Function:
    """As `kernel`, with sums in the order written: the bits are the same on every processor."""
    return _compiled(function, set())


def _compiled(function: Function, fastmath: set[str]) -> Function:
    previous = config.CACHE_DIR
    # Numba reads the setting at decoration; other users of Numba in this process keep theirs.
    config.CACHE_DIR = str(CACHE_FOLDER or "")
    try:
        wrap = numba.njit(cache=CACHE_FOLDER is not None, nogil=True, fastmath=fastmath)
        return cast(Function, wrap(function))
    finally:
        config.CACHE_DIR = previous


@contextlib.contextmanager
def compile_lock() -> Iterator[None]:
    """One process compiles while the others wait for its cache entries.

    Numba's cache index is rewritten without a lock: two processes that save different signatures at
    once can give both the same file, and later load machine code of the wrong type.
    """
    if CACHE_FOLDER is None or sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        descriptor = os.open(CACHE_FOLDER / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(descriptor)
