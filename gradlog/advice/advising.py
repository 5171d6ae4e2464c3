"""Advise on a run: one pass, or a finished result, then every quantity that was asked for."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...kernels.gram import one_blas_thread
from ..cluster.whole_runs import takes_whole_runs
from ..errors import UsageError
from ..progress import Progress
from ..results.result import Analysis, Settings
from ..sizes import DEFAULT_MEMORY
from .decision import ESTIMATE, FACT, NONE, WEAK, Advice, Decision
from .evidence import Evidence
from .quantities import QUANTITIES, Quantity
from .schedule import NAME as SCHEDULE
from .schedule import schedule_of

if TYPE_CHECKING:
    from ..logs.opening import Run


@takes_whole_runs
def advise(
    run: Run | Analysis,
    settings: Settings | None = None,
    *,
    only: Sequence[str] = (),
    samples: int | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Advice:
    """What a run's gradients say about its optimizer: decisions, each with its figures and its source.

    Parameters
    ----------
    run : as of `analyze`, or a finished analysis, which leaves some answers open
    only : names of quantities, all of QUANTITIES where empty
    samples : rows whose gradient matrices are taken; by default as many as cost a tenth of the pass, up to 16
    settings, threads, memory, scratch, progress : as of `analyze`

    Raises UsageError for names that are not known, and what `analyze` raises.
    """
    return analyze_and_advise(
        run, settings, only=only, samples=samples, threads=threads, memory=memory, scratch=scratch,
        progress=progress,
    )[1]  # fmt: skip


def analyze_and_advise(
    run: Run | Analysis,
    settings: Settings | None = None,
    *,
    only: Sequence[str] = (),
    samples: int | None = None,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Analysis, Advice]:
    """`advise`, and the analysis that it follows from: of one pass."""
    began = time.perf_counter()
    names = checked_names(only)
    if samples is not None and samples < 1:
        raise UsageError(f"samples {samples}: must be at least 1")
    if isinstance(run, Analysis):
        evidence = Evidence.of_finished(run)
    else:
        from .gathering import gather  # deferred: advice on finished results opens no store

        wanted = [QUANTITIES[name] for name in names]
        evidence = gather(run, settings or Settings(), wanted, samples, threads, memory, progress, scratch)
    with one_blas_thread():  # products are many and small
        decisions = [decision for name in names for decision in _decisions(evidence, QUANTITIES[name])]
    holds = SCHEDULE in names and not (evidence.kind.of_updates and QUANTITIES[SCHEDULE].of_updates)
    schedule = schedule_of(evidence) if holds else None
    analysis = evidence.analysis
    if analysis.total.energy_error is not None:
        decisions = [estimated(decision) for decision in decisions]
    step = analysis.steps.step
    return analysis, Advice(
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


def _decisions(evidence: Evidence, quantity: Quantity) -> list[Decision]:
    """What a quantity says of the run, in the words of what its rows are."""
    kind = evidence.kind
    if kind.of_updates and quantity.of_updates is not None:
        return [quantity.of_updates]
    found = quantity.decide(evidence)
    return [dataclasses.replace(decision, text=kind.say(decision.text)) for decision in found]


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
