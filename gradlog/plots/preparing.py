"""An analysis that has what panels show."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from ..cluster.whole_runs import takes_whole_runs
from ..logs.log import sketch_of
from ..logs.opening import Run
from ..progress import Progress
from ..results.result import Analysis, Settings
from ..runs.analysis import analyze
from ..runs.selecting import open_for_pass, select_rows
from ..sizes import DEFAULT_MEMORY
from .panels import check_panels, settings_for_panels


@takes_whole_runs
def analyze_for_plot(
    run: Run,
    settings: Settings | None = None,
    *,
    panels: Sequence[str] = (),
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """`analyze`, with windows of training where the settings ask for none, and a subspace for its panel.

    At most 40 windows, of at least 5 rows, or of 20 where their r* is shown; at most 10 directions, fewer
    where rows are few, and none of a sketch. Errors as of `analyze`, and UsageError for a panel that there
    is not.
    """
    check_panels(panels)
    settings = settings or Settings()
    log = open_for_pass(run, settings, threads)
    first, last = select_rows(log, settings)
    sketched = settings.project is not None or sketch_of(log) is not None
    full = settings_for_panels(settings, panels, last - first, subspaces=not sketched)
    found = analyze(log, full, threads=threads, memory=memory, scratch=scratch, progress=progress)
    if settings.windows is not None:
        return found
    # Nobody asked for windows: where a panel misses their ranks, it says so.
    told = tuple(warning for warning in found.warnings if warning.code != "windows-without-rank")
    return dataclasses.replace(found, warnings=told)
