"""What advice on a store takes: one pass, and what quantities glean from its blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..errors import UsageError
from ..logs.log import sketch_of
from ..logs.opening import Run
from ..logs.series import RATES, series_of_rows
from ..measures.gradient_matrices import Gleaning, reserved_bytes, sample_sizes, window_starts
from ..progress import Progress
from ..results.result import Settings
from ..runs.preparation import open_for_pass, prepare
from ..runs.prepared_pass import run_analysis
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
) -> Evidence:
    """One pass that gathers what the quantities `wanted` take; otherwise as of `advise`."""
    matrices = any(quantity.matrices for quantity in wanted)
    windows = any(quantity.windows for quantity in wanted)
    search = any(quantity.search for quantity in wanted)
    if settings.rank == "auto" and not any(quantity.spectrum or quantity.search for quantity in wanted):
        settings = dataclasses.replace(settings, rank="none")
    log = open_for_pass(run, settings, threads)
    room = reserved_bytes(log.tensors, log.rows, memory, samples) if matrices else 0
    if settings.project is not None:
        raise UsageError(f"{log.path}: advice follows from gradients: leave the projection out")
    search = search and sketch_of(log) is None
    ready = prepare(log, settings, threads, memory, tensor_steps=True, search=search, beside=room)

    def glean(rows: int) -> Gleaning:
        whole = len(ready.plan.ranges) == 1
        sizes = (
            sample_sizes(ready.tensors, rows, whole_rows=whole, room=room, asked=samples) if matrices else {}
        )
        return Gleaning(ready.tensors, rows, sizes, windows)

    analysis, gleaning, keep = run_analysis(ready, progress, tensor_steps=True, make_side_work=glean)
    assert isinstance(gleaning, Gleaning)
    return Evidence(
        analysis,
        series=series_of_rows(log, RATES, ready.plan.rows, keep),
        matrices=gleaning.matrices(),
        no_matrices=gleaning.reasons() | {t.name: SKETCHED for t in ready.tensors if t.made_of},
        windows=gleaning.window_squares,
        window_rows=window_starts(analysis.run.rows - 1),
        no_windows=NO_ROW_GRAM,
    )
