"""What a run's path lengths and ranks are worth as guarantees: each formula with its value for this run.

docs/guarantees.md says what each can and cannot say.
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import TYPE_CHECKING

import numpy as np

from ..cluster.whole_runs import takes_whole_runs
from ..errors import UsageError
from ..progress import Progress
from ..results.result import Analysis, Settings
from ..results.row_kind import RowKind
from ..sizes import DEFAULT_MEMORY
from .anytime import anytime
from .guarantee import Bounds, Guarantee
from .hints import bounds_hint
from .rank_residual import meeting_ranks, rank_row, residual_curve
from .regret import regret_rows
from .stationarity import stationarity_rows
from .variation import VARIATION, variation_rows

if TYPE_CHECKING:
    from ..logs.opening import Run

BEYOND = "beyond float64: scale the {gradients}, or give a smaller --radius"
NO_GRADIENTS = "a theorem about gradients, which updates are not, whatever the learning rate"
"""Momentum, rescaling and weight decay are in them, and over several steps gradients of many points."""


def bounds(
    analysis: Analysis,
    *,
    radius: float = 1.0,
    smoothness: float | None = None,
    lr: float | None = None,
    floor: float = 0.0,
) -> Bounds:
    """The guarantees that an analysis gives, best from `analyze(run, search=True)`, or from `read_analyses`.

    Parameters
    ----------
    radius : R, with D(x*, x_0) <= R^2 for the comparator x*: in the Euclidean case their distance over root 2
    smoothness : L, to check that steps are at most 1/L
    lr : step size, in the place of the log's own series
    floor : what no loss is below

    Of a log of updates the measures of variation have a value, and what speaks of gradients has none: regret,
    stationarity, and their curves.

    Raises UsageError for values outside their ranges.
    """
    check_bounds(radius, smoothness, lr, floor)
    # Energies may be as large as float64 has them, and what is made of them larger.
    with np.errstate(over="ignore"):
        hint = bounds_hint(analysis)
        curve = residual_curve(analysis.total.spectrum)
        rows = (
            *regret_rows(analysis, radius),
            rank_row(analysis, radius),
            *stationarity_rows(analysis, hint, smoothness, lr, floor),
            *variation_rows(analysis),
        )
        return Bounds(
            analysis=analysis,
            radius=radius,
            smoothness=smoothness,
            lr=lr,
            floor=floor,
            rows=tuple(_of_rows(row, analysis.run.kind) for row in rows),
            anytime=anytime(analysis, hint, radius, smoothness, lr, floor),
            residual=curve,
            meeting=meeting_ranks(analysis, curve),
        )


def _of_rows(row: Guarantee, kind: RowKind) -> Guarantee:
    """The guarantee, without what is no number in it, and without what rows of that kind have no part in."""
    if kind.of_updates and not row.name.startswith(VARIATION):
        return dataclasses.replace(
            row, hint="", value=None, worst=None, why=NO_GRADIENTS, assumptions=(), in_expectation=False,
            vacuous=False,
        )  # fmt: skip
    value, worst = (x if x is not None and math.isfinite(x) else None for x in (row.value, row.worst))
    why = row.why if (value, worst) == (row.value, row.worst) else row.why or BEYOND
    return dataclasses.replace(row, value=value, worst=worst, why=kind.say(why))


@takes_whole_runs
def analyze_for_bounds(
    run: Run,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> Analysis:
    """`analyze` with a search, or without where a sketch of gradients is all there is; errors as there."""
    # Deferred: bounds on finished results open no store.
    from ..logs.log import sketch_of
    from ..runs.analysis import analyze
    from ..runs.selecting import open_for_pass

    settings = settings or Settings()
    log = open_for_pass(run, settings, threads)
    search = settings.project is None and sketch_of(log) is None
    return analyze(
        log, settings, threads=threads, memory=memory, progress=progress, scratch=scratch, search=search
    )


def check_bounds(radius: float, smoothness: float | None, lr: float | None, floor: float) -> None:
    """Raise UsageError for parameters of `bounds` outside their ranges."""
    for word, value in (("radius", radius), ("smoothness", smoothness), ("lr", lr)):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{word} {value!r}: must be above 0")
    if not math.isfinite(floor):
        raise UsageError(f"floor {floor!r}: must be a number")
