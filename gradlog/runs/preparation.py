"""What is settled before a pass: the log, its tensors and rows, and the plan."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..cluster.cluster import Cluster, current_cluster, parts_of_log
from ..engine.measure import Measure
from ..engine.plan import PLANNED_THREADS, Plan, make_plan
from ..engine.request import Request
from ..engine.splitting import PartNumber, PartPlan, part_of
from ..errors import MemoryLimitError, UsageError
from ..logs.absent_chunks import absent_chunk_warnings
from ..logs.log import GradientLog, Tensor
from ..logs.opening import Run
from ..logs.repeated_steps import NOT_INCREASING, REPEATED, SETTLED, kept_rows
from ..logs.store import codec_pipeline
from ..measures.registry import registered_measure
from ..measures.sketch.sketch_choice import SketchChoice
from ..measures.sketch.sketching import Sketching
from ..measures.spectra.exact_spectrum import ExactOverRows
from ..measures.spectra.spectrum import NAME as SPECTRUM
from ..predictors import HistoryBank, parse_predictors
from ..processors import available_processors
from ..quick_dataclass import dataclass
from ..results.projection import check_dimension, check_seed
from ..results.result import Cost, LogWarning, Settings
from ..results.selection import Scope, Selection
from .selecting import open_for_pass, select_rows, select_tensors
from .sketched import Sketched
from .wanted import RANK_METHODS, Asked, Wanted

if TYPE_CHECKING:
    from ..logs.scratch import Scratch

NONFINITE_POLICIES = ("fail", "drop")


@dataclass(frozen=True)
class Preparation:
    """All that is settled before the first gradient is read.

    keep : (rows,) bool over the plan's rows, False for those left out from the start; None keeps all
    cluster : that takes the pass in parts; began : when; wanted : beside what the settings say; scratch :
    what some tensors are read from
    """

    log: GradientLog
    settings: Settings
    tensors: Sequence[Tensor]
    bank: HistoryBank
    plan: Plan
    workers: int
    warnings: tuple[LogWarning, ...]
    began: float
    wanted: Wanted = Wanted()
    part: PartPlan | None = None
    cluster: Cluster | None = None
    keep: NDArray[np.bool_] | None = None
    scratch: Scratch | None = None

    @property
    def spectrum(self) -> Measure | None:
        """The measure that finds ranks."""
        return self.plan.measure(SPECTRUM)

    @property
    def sketch(self) -> SketchChoice:
        """How gradients or increments are projected, where they are."""
        return next(each.choice for each in self.plan.measures if isinstance(each, Sketching))

    @property
    def rows(self) -> int:
        """Rows that enter the analysis, unless more of them turn out not to be finite."""
        return self.plan.kept(self.keep)

    def cost(self, passes: int = 1) -> Cost:
        """What it has cost since it began, after as many passes."""
        reader = "+".join(sorted({tensor.reader for tensor in self.tensors}))
        return Cost(time.perf_counter() - self.began, passes * self.plan.decoded_bytes, reader)

    def selection(self, keep: NDArray[np.bool_] | None = None) -> Selection:
        """What the pass reads. keep : (rows,) bool, False for rows that are left out; None keeps all."""
        step = self.log.step[slice(*self.plan.rows)]
        scopes = [
            Scope(tensor.name, tensor.shape, tensor.dtype)
            if tensor.made_of is None
            else Scope(tensor.name, tensor.made_of, tensor.dtype, tensor.parameters)
            for tensor in self.tensors
        ]
        return Selection(self.log.path, self.log.attributes, scopes, step if keep is None else step[keep])


def prepare(
    run: Run,
    settings: Settings,
    threads: int | None,
    memory: int,
    part: PartNumber | None = None,
    wanted: Wanted = Wanted(),  # noqa: B008
    scratch: str | os.PathLike[str] | None = None,
    *,
    listed: bool = True,
) -> Preparation:
    """Open and check the log, choose tensors and rows, and plan the pass, or the pass over a part of it.

    Arguments as of `analyze`. wanted : beside what the settings say; a part has no `scratch`
    listed : chunks are looked for, to tell of those that are absent
    """
    began = time.perf_counter()
    check_settings(settings)
    cluster = None if part is not None else current_cluster()
    in_parts = part is not None or cluster is not None
    if part is not None and settings.project is not None:
        raise UsageError("--project has no parts: sketch the log with gradmf sketch, which is small")
    # A plan for workers elsewhere is made for as many threads as decide the order of sums.
    workers = threads or (available_processors() if cluster is None else PLANNED_THREADS[0])
    log = open_for_pass(run, settings, workers)
    with codec_pipeline(workers):
        tensors: Sequence[Tensor]
        tensors, unmatched = select_tensors(log, settings)
        rows = select_rows(log, settings)
        keep = kept_rows(log.path, log.step[slice(*rows)], settings.repeated, rows[0])
        warnings = [*_log_warnings(log, rows, keep), *unmatched]
        if listed:
            warnings += absent_chunk_warnings(
                log, tensors, rows, strict=settings.strict, nonfinite=settings.nonfinite
            )
    sketched = Sketched.of(log, tensors)
    choice = SketchChoice(settings.sketch_dim, settings.seed)
    if sketched is not None:
        sketched.check(log, settings, search=wanted.search)
        choice = sketched.choice
    bank = HistoryBank.of(parse_predictors(settings.predictors), rows[1] - rows[0])
    asked = Asked(settings, wanted, bank, tensors, rows[1] - rows[0], choice, in_parts=in_parts)
    parts = 1 if part is None else part.count
    if cluster is not None:
        parts = cluster.parts or parts_of_log(tensors, rows[1] - rows[0])
        cluster = Cluster(cluster.workers, parts)

    def plan_for(chosen: Sequence[Tensor]) -> Plan:
        request = Request(chosen, rows, bank, memory, workers, parts)
        made = make_plan(request, asked.measures(), asked.ways())
        return made if sketched is None else sketched.cut(made, chosen)

    of_part, held = None, None
    try:
        if part is not None:
            # Machines may differ in their cores, which do not move the borders of ranges.
            of_part = part_of(plan_for(tensors), tensors, part)
            plan = of_part.plan
        elif scratch is not None and cluster is None:
            from .scratch_plan import with_scratch  # deferred: few ask for it

            tensors, plan, held = with_scratch(plan_for, tensors, rows, memory, scratch, log.path)
        else:
            plan = plan_for(tensors)
    except (MemoryLimitError, UsageError) as error:
        raise type(error)(f"{log.path}: {error}") from error
    if plan.decodes > 1:
        warnings.append(_decodes_warning(plan))
    all_pairs = isinstance(plan.measure(SPECTRUM), ExactOverRows)
    if settings.band is not None and (all_pairs or not wanted.search):
        warnings.append(_band_warning(wanted.search))
    if sketched is None and plan.method != "sketch" and (settings.sketch_dim is not None or settings.seed):
        given = "--seed" if settings.sketch_dim is None else "--sketch-dim"
        warnings.append(
            LogWarning(
                "sketch-unused",
                f"no sketch is made, and {given} serves nothing: the {plan.method} rank is affordable; "
                "--rank sketch asks for a sketch",
            )
        )
    return Preparation(
        log=log,
        settings=settings,
        tensors=tensors,
        bank=bank,
        plan=plan,
        workers=workers,
        warnings=tuple(warnings),
        began=began,
        wanted=wanted,
        part=of_part,
        cluster=cluster,
        keep=keep,
        scratch=held,
    )


def _log_warnings(
    log: GradientLog, rows: tuple[int, int], keep: NDArray[np.bool_] | None
) -> list[LogWarning]:
    """Those of the log, but for steps that stand twice where that was settled."""
    if keep is None:
        return list(log.warnings)
    left = np.flatnonzero(~keep) + rows[0]
    told = f"{left.size} row{'s' * (left.size > 1)} of repeated steps left out: rows {left[0]} to {left[-1]}"
    others = [warning for warning in log.warnings if warning.code != NOT_INCREASING]
    return [*others, LogWarning(SETTLED, told)]


def check_settings(settings: Settings) -> None:
    """Raise UsageError for settings outside their ranges, before anything is read."""
    parse_predictors(settings.predictors)
    for epsilon in settings.epsilons:
        if not 0.0 <= epsilon < 1.0:
            raise UsageError(f"epsilon {epsilon!r}: must be at least 0 and below 1")
    if settings.rank not in RANK_METHODS:
        raise UsageError(f"rank method {settings.rank!r}: known are {', '.join(RANK_METHODS)}")
    if settings.subspace is not None and settings.subspace < 1:
        raise UsageError(f"subspace {settings.subspace}: must have at least 1 dimension")
    least = max(2, settings.subspace or 0)
    if settings.window is not None and settings.window < least:
        raise UsageError(f"window {settings.window}: must have at least {least} rows")
    if settings.window is not None and settings.subspace is None:
        raise UsageError("window: goes with subspace only")
    if settings.band is not None:
        from ..measures.search.history_band import LEAST_WIDTH, MOST_WIDTH  # deferred: few passes search

        if not LEAST_WIDTH <= settings.band <= MOST_WIDTH:
            raise UsageError(f"band {settings.band}: must be from {LEAST_WIDTH} to {MOST_WIDTH} lags")
    for dim in (settings.sketch_dim, settings.project):
        if dim is not None:
            check_dimension(dim)
    if settings.project is not None and settings.rank not in ("auto", "sketch", "none"):
        raise UsageError(f"--project: ranks of a sketch are estimates, --rank {settings.rank} has none")
    if settings.project is not None and (settings.subspace is not None or settings.nonfinite == "drop"):
        what = "--subspace" if settings.subspace is not None else "--nonfinite drop"
        raise UsageError(f"--project: {what} takes the gradients themselves")
    check_seed(settings.seed)
    for name in settings.measures:
        registered_measure(name)
    if settings.project is not None and settings.sketch_dim is not None:
        raise UsageError("--project says the sketch's dimension itself: leave --sketch-dim away")
    if settings.project is None and settings.rank not in ("auto", "sketch"):
        given = "--sketch-dim" if settings.sketch_dim is not None else "--seed" if settings.seed else ""
        if given:
            raise UsageError(
                f"{given}: no sketch is made with --rank {settings.rank}; it takes --rank sketch"
            )
    if settings.repeated not in REPEATED:
        raise UsageError(f"repeated {settings.repeated!r}: known are {', '.join(REPEATED)}")
    if settings.nonfinite not in NONFINITE_POLICIES:
        raise UsageError(f"nonfinite {settings.nonfinite!r}: known are {', '.join(NONFINITE_POLICIES)}")


def _band_warning(search: bool) -> LogWarning:
    why = "all pairs of rows are multiplied" if search else "no predictors are searched"
    return LogWarning("band-unused", f"{why}, and --band serves nothing")


def _decodes_warning(plan: Plan) -> LogWarning:
    return LogWarning(
        "chunks-decoded-again",
        f"chunks hold more than memory allows at once and are decoded up to {plan.decodes} times: "
        "a larger --memory reads faster",
    )
