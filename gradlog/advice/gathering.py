"""What advice on a store takes: one pass, and what quantities need beside its sums."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from ..errors import UsageError
from ..logs.log import sketch_of
from ..logs.opening import Run
from ..logs.series import RATES, series_of_rows
from ..measures.gradient_matrices import NAME as MATRICES
from ..measures.gradient_matrices import GradientMatrices, SampledMatrices
from ..measures.increment_windows import NAME as WINDOWS
from ..measures.increment_windows import IncrementWindows, window_starts
from ..progress import Progress
from ..results.result import Settings
from ..runs.preparation import prepare
from ..runs.prepared_pass import run_analysis
from ..runs.selecting import open_for_pass
from ..runs.wanted import Wanted
from .evidence import Evidence
from .quantities import Quantity

SKETCHED = "a sketch holds no gradient matrices: give the log of gradients"
NO_ROW_GRAM = "windows of increments come with the exact rank, of fewer rows than parameters"


def gather(
    run: Run,
    settings: Settings,
    wanted: Sequence[Quantity],
    samples: int | None,
    threads: int | None,
    memory: int,
    progress: Progress | None,
    scratch: str | os.PathLike[str] | None = None,
) -> Evidence:
    """One pass that gathers what the quantities `wanted` take; otherwise as of `advise`."""
    log = open_for_pass(run, settings, threads)
    if settings.project is not None:
        raise UsageError(f"{log.path}: advice follows from {log.kind.name}: leave the projection out")
    if log.kind.of_updates:
        wanted = [quantity for quantity in wanted if quantity.of_updates is None]
    matrices = any(quantity.matrices for quantity in wanted)
    windows = any(quantity.windows for quantity in wanted)
    search = any(quantity.search for quantity in wanted)
    if settings.rank == "auto" and not any(quantity.spectrum or quantity.search for quantity in wanted):
        settings = dataclasses.replace(settings, rank="none")
    beside = Wanted(
        tensor_steps=True,
        search=search and sketch_of(log) is None,
        beside=(GradientMatrices(samples, memory),) if matrices else (),
        following=(IncrementWindows(),) if windows else (),
    )
    ready = prepare(log, settings, threads, memory, wanted=beside, scratch=scratch)
    analysis, gathered, keep = run_analysis(ready, progress)
    found: SampledMatrices = gathered.results.get(MATRICES, SampledMatrices({}, {}))
    return Evidence(
        analysis,
        series=series_of_rows(log, RATES, ready.plan.rows, keep),
        matrices=found.spectra,
        no_matrices={**found.reasons, **{t.name: SKETCHED for t in ready.tensors if t.made_of}},
        windows=gathered.results.get(WINDOWS),
        window_rows=window_starts(analysis.run.rows - 1),
        no_windows=NO_ROW_GRAM,
    )
