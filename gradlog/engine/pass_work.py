"""What one process does of a pass: it reads ahead while kernels load, then takes every block."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..logs.log import Tensor
from ..predictors import HistoryBank
from ..progress import Progress
from .blocks import BlockReader
from .measure import RowSink
from .plan import Plan

if TYPE_CHECKING:
    from .one_pass import Gathered


@dataclass(frozen=True)
class PassWork:
    """bank : of the predictors; keep : (rows,) bool, False for rows of the plan to leave out, None keeps all

    strips : of each tensor in the whole plan, where `plan` holds the ranges of a part only
    sink : as of `PassContext`
    """

    tensors: Sequence[Tensor]
    plan: Plan
    bank: HistoryBank
    keep: NDArray[np.bool_] | None
    strips: Counter[int] | None = None
    sink: RowSink | None = None

    @property
    def rows(self) -> int:
        """Rows that are kept."""
        return self.plan.count if self.keep is None else int(self.keep.sum())


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
            from .one_pass import Work, compile_kernels, run_pass

            compile_kernels(work.tensors)
        with one_blas_thread():
            return run_pass(
                reader,
                Work(work.tensors, work.plan, work.bank, work.rows, work.strips, work.sink),
                progress,
            )


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads that read wait less for one that imports: reading a block takes a dozen turns."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, 1e-4))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
