"""What one process does of a pass: it reads ahead while kernels load, then takes every block."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..progress import Progress
from .blocks import BlockReader
from .pass_work import PassWork

if TYPE_CHECKING:
    from .one_pass import Gathered


def take_work(path: str, work: PassWork, progress: Progress | None = None) -> Gathered:
    """Take every block of the log at `path` once; as of `run_pass`."""
    # Sums that overflow are told by name once they are whole.
    with (
        np.errstate(over="ignore", invalid="ignore"),
        BlockReader(path, work.tensors, work.plan, work.keep) as reader,
    ):
        with _short_turns():
            # The first block is read while kernels and BLAS load.
            from ...kernels.gram import one_blas_thread
            from .one_pass import compile_kernels, run_pass

            compile_kernels(tensor.compute_dtype for tensor in work.tensors)
        with one_blas_thread():
            return run_pass(reader, work, progress)


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads that read wait less for one that imports: reading a block takes a dozen turns."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, 1e-4))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
