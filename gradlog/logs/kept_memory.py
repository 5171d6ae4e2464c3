"""Memory and threads that a thread keeps for what it reads: fresh ones cost as much as what is read.

They go when the thread ends.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

_held = threading.local()


def kept_memory(name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array in C order, with whatever is in it, that lies where the thread's last one of that name lay."""
    size = math.prod(shape) * dtype.itemsize
    buffers: dict[str, NDArray[np.uint8]] = _held.__dict__.setdefault("buffers", {})
    if name not in buffers or buffers[name].size < size:
        buffers.pop(name, None)
        # Packed chunks differ a little in length. What nobody writes to takes no memory.
        buffers[name] = np.empty(size + size // 16, np.uint8)
    return buffers[name][:size].view(dtype).reshape(shape)


def together(work: Callable[..., object], items: Sequence[tuple[Any, ...]], threads: int) -> None:
    """Do it for each item, in so many kept threads. Raises what it raises, once nothing is in work."""
    if threads < 2 or len(items) < 2:
        for item in items:
            work(*item)
        return
    waiting = [_kept_threads(threads).submit(work, *item) for item in items]
    try:
        for each in waiting:
            each.result()
    finally:
        for each in waiting:
            each.cancel()
        wait(waiting)


def _kept_threads(count: int) -> ThreadPoolExecutor:
    """A pool of so many threads, each of which keeps its own memory."""
    pools: dict[int, ThreadPoolExecutor] = _held.__dict__.setdefault("pools", {})
    if count not in pools:
        pools[count] = ThreadPoolExecutor(count, thread_name_prefix="gradmf-unpack")
    return pools[count]
