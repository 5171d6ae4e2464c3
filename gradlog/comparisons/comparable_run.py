"""The analysis of a run to be compared with a baseline: what cannot be compared is told before it is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..progress import Progress
from ..results.result import Analysis, Settings
from ..results.row_kind import check_same_kind

if TYPE_CHECKING:
    from ..logs.opening import Run


def analyze_for_comparison(
    run: Run,
    settings: Settings,
    baseline: Analysis | None = None,
    *,
    threads: int | None,
    memory: int,
    progress: Progress | None,
    scratch: str | os.PathLike[str] | None = None,
) -> Analysis:
    """`analyze` with tensors' sums by step, which `compare` takes; errors as there.

    baseline : what it is to be compared with; None for the baseline itself

    Raises UsageError, before any row is read, for updates against gradients.
    """
    # Deferred: finished results are compared without a store.
    from ..runs.analysis import analyze
    from ..runs.selecting import open_for_pass

    log = open_for_pass(run, settings, threads)
    if baseline is not None:
        check_same_kind(baseline.run, log)
    return analyze(
        log, settings, threads=threads, memory=memory, progress=progress, scratch=scratch, tensor_steps=True
    )
