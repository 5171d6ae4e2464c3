"""What a task may know of where it runs."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ..errors import StoreNotFoundError
from ..processors import available_processors

ONE_AT_A_TIME = threading.Lock()
"""Settings of Zarr, BLAS and the interpreter are a process's: a worker of several threads lends them all to
one task, which computes with as many."""


def worker_name() -> str:
    """Of the worker that runs this task, in messages."""
    worker = _worker()
    return "this process" if worker is None else f"worker {worker.address}"


def worker_threads() -> int:
    """Threads that a task may take: a worker's own, or the processors that this process may use."""
    worker = _worker()
    return available_processors() if worker is None else max(1, int(worker.state.nthreads))


def load_ahead() -> None:
    """Load what tasks need in a thread of its own: a worker has nothing to do while a log is planned."""
    threading.Thread(target=_load, name="gradmf-load", daemon=True).start()


def _load() -> None:
    with contextlib.suppress(Exception):  # the first task will tell
        import numpy as np

        from ..engine.one_pass import compile_kernels

        for module in ("..runs.analysis", ".part_tasks", ".run_tasks", "...kernels.gram"):
            importlib.import_module(module, __package__)
        compile_kernels([np.dtype(np.float32)])


@contextlib.contextmanager
def seen_from_worker(name: str) -> Iterator[None]:
    """Whatever is not there, is not there for a worker. name : of the log"""
    try:
        yield
    except StoreNotFoundError as error:
        if _worker() is None:
            raise
        raise StoreNotFoundError(
            f"{name}: {worker_name()} sees nothing there: give a path or a URL that all workers share"
        ) from error


def _worker() -> Any:
    """The worker of Dask that this thread works for, None outside of one."""
    distributed = sys.modules.get("distributed.worker")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None
