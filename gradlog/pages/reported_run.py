"""A run that a report is made of: its analysis, and advice of the same pass."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Self

from ..advice.advising import advise, analyze_and_advise
from ..advice.decision import Advice
from ..cluster.whole_runs import takes_whole_runs
from ..plots.panels import settings_for_panels
from ..progress import Progress
from ..quick_dataclass import dataclass
from ..results.result import Analysis, LogWarning, Settings
from ..sizes import DEFAULT_MEMORY

if TYPE_CHECKING:
    from ..logs.opening import Run


@dataclass(frozen=True)
class ReportedRun:
    """What `report` shows of a run."""

    analysis: Analysis
    advice: Advice

    @classmethod
    def of_finished(cls, analysis: Analysis) -> Self:
        """Of an analysis alone, which leaves some answers of advice open."""
        return cls(analysis, advise(analysis))

    @property
    def warnings(self) -> tuple[LogWarning, ...]:
        """Of the analysis."""
        return self.analysis.warnings


@takes_whole_runs
def analyze_for_report(
    run: Run,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ReportedRun:
    """One pass for all that a report shows: windows of training, tensors' sums by step, predictors, advice.

    Windows are those of `analyze_for_plot` where the settings ask for none. Errors as of `analyze`.
    """
    # Deferred: reports of finished results open no store.
    from ..runs.analysis import analyze
    from ..runs.selecting import open_for_pass, select_rows

    settings = settings or Settings()
    log = open_for_pass(run, settings, threads)
    first, last = select_rows(log, settings)
    full = settings_for_panels(settings, (), last - first, subspaces=False)
    if settings.project is not None:
        analysis = analyze(
            log, full, threads=threads, memory=memory, scratch=scratch, progress=progress, tensor_steps=True
        )
        found = ReportedRun.of_finished(analysis)
    else:
        found = ReportedRun(
            *analyze_and_advise(log, full, threads=threads, memory=memory, scratch=scratch, progress=progress)
        )
    if settings.windows is not None:
        return found
    # Nobody asked for windows: where a figure misses their ranks, it says so.
    told = tuple(warning for warning in found.warnings if warning.code != "windows-without-rank")
    return dataclasses.replace(found, analysis=dataclasses.replace(found.analysis, warnings=told))
