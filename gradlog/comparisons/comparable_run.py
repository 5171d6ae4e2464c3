"""The analysis of a run to be compared with a baseline: what cannot be compared is told before it is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..cluster.whole_runs import takes_whole_runs
from ..progress import Progress
from ..results.result import Analysis, RunInfo, Settings
from ..results.row_kind import check_same_kind
from ..sizes import DEFAULT_MEMORY

if TYPE_CHECKING:
    from ..logs.opening import Run


@takes_whole_runs
def analyze_for_comparison(
    run: Run,
    settings: Settings | None = None,
    *,
    baseline: RunInfo | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> Analysis:
    """`analyze` with tensors' sums by step, which `compare` takes; errors as there.

    baseline : what it is to be compared with; None for the baseline itself

    Raises UsageError, before any row is read, for updates against gradients.
    """
    # Deferred: finished results are compared without a store.
    from ..runs.analysis import analyze
    from ..runs.selecting import open_for_pass

    settings = settings or Settings()
    log = open_for_pass(run, settings, threads)
    if baseline is not None:
        check_same_kind(baseline, log)
    return analyze(
        log, settings, threads=threads, memory=memory, progress=progress, scratch=scratch, tensor_steps=True
    )
