"""Advise on a run: one pass, or a finished result, then every quantity that was asked for."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..log import GradientLog, sketch_of
from ..preparation import DEFAULT_MEMORY, open_for_pass, prepare
from ..prepared_pass import run_analysis
from ..progress import Progress
from ..result import Analysis, Settings
from ..series import RATES, series_of_rows
from .decision import ESTIMATE, FACT, NONE, WEAK, Advice, Decision
from .evidence import Evidence
from .quantities import QUANTITIES
from .schedule import NAME as SCHEDULE
from .schedule import schedule_of

SKETCHED = "a sketch holds no gradient matrices: give the log of gradients"
NO_ROW_GRAM = "windows of increments come with the exact rank, of fewer rows than parameters"


def advise(
    run: str | os.PathLike[str] | GradientLog | Analysis,
    settings: Settings | None = None,
    *,
    only: Sequence[str] = (),
    samples: int | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> Advice:
    """What a run's gradients say about its optimizer: decisions, each with its figures and its source.

    Parameters
    ----------
    run : path of a store, a log from `open_log`, or a finished analysis, which leaves some answers open
    only : names of quantities, all of QUANTITIES where empty
    samples : rows whose gradient matrices are taken; by default as many as cost a tenth of the pass, up to 16
    settings, threads, memory, progress : as of `analyze`

    Raises UsageError for names that are not known, and what `analyze` raises.
    """
    began = time.perf_counter()
    names = checked_names(only)
    if samples is not None and samples < 1:
        raise UsageError(f"samples {samples}: must be at least 1")
    evidence = (
        Evidence(run)
        if isinstance(run, Analysis)
        else _gather(run, settings or Settings(), names, samples, threads, memory, progress)
    )
    decisions = [decision for name in names for decision in QUANTITIES[name].decide(evidence)]
    schedule = schedule_of(evidence) if SCHEDULE in names else None
    analysis = evidence.analysis
    if analysis.total.energy_error is not None:
        decisions = [estimated(decision) for decision in decisions]
    step = analysis.steps.step
    return Advice(
        version=analysis.version,
        run=analysis.run,
        settings=analysis.settings,
        checked=names,
        decisions=tuple(sorted(decisions, key=_order)),
        schedule=None if isinstance(schedule, str) else schedule,
        samples=max((spectra.rows.size for spectra in evidence.matrices.values()), default=0),
        seconds=time.perf_counter() - began,
        warnings=analysis.warnings,
        steps=(int(step[0]), int(step[-1])) if step.size else None,
    )


def estimated(decision: Decision) -> Decision:
    """The decision where sums are estimates from a sketch: nothing is counted, and no interval is whole."""
    figures = tuple(
        dataclasses.replace(figure, basis=ESTIMATE) if figure.basis == FACT else figure
        for figure in decision.figures
    )
    confidence = decision.confidence if decision.confidence == NONE else WEAK
    return dataclasses.replace(decision, figures=figures, confidence=confidence)


def checked_names(only: Sequence[str]) -> tuple[str, ...]:
    """The quantities asked for, in the order of QUANTITIES. Raises UsageError."""
    for name in only:
        if name not in QUANTITIES:
            raise UsageError(f"no quantity {name!r}; known are {', '.join(QUANTITIES)}")
    return tuple(name for name in QUANTITIES if not only or name in only)


def _order(decision: Decision) -> float:
    """The weightiest first; the order of quantities and scopes is kept among equals."""
    return -decision.weight


def _gather(
    run: str | os.PathLike[str] | GradientLog,
    settings: Settings,
    names: Sequence[str],
    samples: int | None,
    threads: int | None,
    memory: int,
    progress: Progress | None,
) -> Evidence:
    wanted = [QUANTITIES[name] for name in names]
    matrices = any(quantity.matrices for quantity in wanted)
    windows = any(quantity.windows for quantity in wanted)
    search = any(quantity.search for quantity in wanted)
    if settings.rank == "auto" and not any(quantity.spectrum or quantity.search for quantity in wanted):
        settings = dataclasses.replace(settings, rank="none")
    log = open_for_pass(run, settings, threads)
    from .gleaning import Gleaning, reserved_bytes, sample_sizes

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
        window_rows=_window_rows(analysis),
        no_windows=NO_ROW_GRAM,
    )


def _window_rows(analysis: Analysis) -> NDArray[np.int64]:
    from .gleaning import window_starts

    return window_starts(analysis.run.rows - 1)
