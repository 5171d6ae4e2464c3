"""What workers do of a pass: take a part of the parameters, and add the sums of neighbouring parts up."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

import numpy as np
from numpy.typing import NDArray

from ..engine.adding import add_states, adding, results_of
from ..engine.measure import PassContext, RowSink
from ..engine.one_pass import Gathered, NonfiniteRow
from ..engine.pass_work import PassWork
from ..engine.plan import Plan
from ..engine.range_table import Ranges
from ..engine.state import HeldState
from ..engine.taking import take_work
from ..errors import DataError
from ..logs.log import GradientLog, Tensor
from ..logs.opening import Opening, open_log_as
from ..logs.places.access import Access, reached_by
from ..logs.store import codec_pipeline
from ..predictors import HistoryBank, parse_predictors
from ..quick_dataclass import dataclass
from .failures import Failure, failure_of
from .here import ONE_AT_A_TIME, seen_from_worker, worker_name, worker_threads
from .workers import Report

Seen = tuple[str, tuple[int, ...], tuple[int, ...]]
"""dtype, shape and chunks of a tensor."""


@dataclass(frozen=True)
class PassTask:
    """What all parts of a pass have in common: nothing of it is secret, and all of it can be sent.

    number : of the pass, that no other has
    path : by which workers open the log; name : by which it is told; access : to object stores
    seen : of each tensor, by name, what the client saw of it: workers have to see the same
    plan : without ranges; strips : how many each tensor is cut into in all parts
    specs : of predictors; keep : (rows,) bool, False for rows of the plan to leave out, None keeps all
    """

    number: str
    path: str
    name: str
    access: Access
    opening: Opening
    seen: Mapping[str, Seen]
    plan: Plan
    strips: Counter[int]
    specs: Sequence[str]
    keep: NDArray[np.bool_] | None


@dataclass(frozen=True)
class PartTask:
    """What a part has of its own."""

    ranges: Ranges
    decoded_bytes: int


@dataclass(frozen=True)
class PartSums:
    """What some parts gathered: the states of measures, or entries that are not finite."""

    state: HeldState = field(default_factory=lambda: HeldState({}, ()))
    nonfinite: Sequence[NonfiniteRow] = ()


Taken = PartSums | Failure

_opened: dict[str, GradientLog] = {}
"""By the number of the pass."""


def take_part(task: PartTask, report: Report, common: PassTask) -> Taken:
    """Read the ranges of a part; errors are values, which no cluster tries again or unfolds."""
    with ONE_AT_A_TIME:
        try:
            return _take(task, report, common)
        except Exception as error:
            return failure_of(error)


def _take(task: PartTask, report: Report, common: PassTask) -> PartSums:
    threads = max(1, min(common.plan.workers, worker_threads()))
    with reached_by(common.access), codec_pipeline(threads):
        tensors = _tensors(common)
        plan = replace(common.plan, ranges=task.ranges, decoded_bytes=task.decoded_bytes, workers=threads)
        bank = HistoryBank.of(parse_predictors(common.specs), plan.count)
        work = PassWork(tensors, plan, bank, common.keep, common.strips)
        gathered = take_work(common.name, work, lambda done, _: report(done))
    held = [plan.strips[tensor] for tensor in range(len(tensors))]
    return PartSums(HeldState(gathered.states, held), gathered.nonfinite)


def add_parts(parts: Iterable[Taken], task: PassTask) -> Taken:
    """What neighbouring parts amount to together; the first that failed, where one did."""
    sums: list[PartSums] = []
    for part in parts:
        if isinstance(part, Failure):
            return part
        sums.append(part)
    nonfinite = [found for part in sums for found in part.nonfinite]
    if nonfinite:
        return PartSums(nonfinite=nonfinite)
    with ONE_AT_A_TIME:
        try:
            with _adding(task, worker_threads()) as context:
                return PartSums(add_states(task.plan.measures, context, [s.state for s in sums]))
        except Exception as error:
            return failure_of(error)


def finished(sums: Taken, work: PassWork, task: PassTask) -> Gathered:
    """The results of a pass, from what all of its parts amount to; rows go to the sink of the work.

    Raises what went wrong in a part.
    """
    if isinstance(sums, Failure):
        raise sums.error()
    if sums.nonfinite:
        return Gathered(nonfinite=sums.nonfinite)
    with _adding(task, work.plan.workers, work.sink) as context:
        return Gathered(results_of(work.plan.measures, context, [sums.state]))


def _adding(
    task: PassTask, workers: int, sink: RowSink | None = None
) -> contextlib.AbstractContextManager[PassContext]:
    sizes = [math.prod(shape) for _, shape, _ in task.seen.values()]
    strips = [task.strips[tensor] for tensor in range(len(sizes))]
    return adding(list(task.seen), sizes, task.plan.kept(task.keep), strips, workers, sink)


def seen_of(tensors: Sequence[Tensor]) -> dict[str, Seen]:
    """What has to be the same of each tensor wherever a part of it is read."""
    return {tensor.name: (tensor.dtype, tensor.shape, tensor.chunks) for tensor in tensors}


def _tensors(task: PassTask) -> list[Tensor]:
    """The tensors of the log, which a worker opens once for all parts of a pass."""
    found = {tensor.name: tensor for tensor in _open(task).tensors}
    chosen = []
    for name, (dtype, shape, chunks) in task.seen.items():
        if name not in found:
            raise DataError(f"{task.name}: tensor '{name}' is not there for {worker_name()}")
        tensor = found[name]
        same = (tensor.dtype, tensor.shape, tensor.chunks) == (dtype, shape, chunks)
        if not same or tensor.rows < task.plan.rows[1]:
            raise DataError(
                f"{task.name}: tensor '{name}' is {tensor.dtype} {(tensor.rows, *tensor.shape)} for "
                f"{worker_name()}, and was {dtype} {(task.plan.rows[1], *shape)} when the work was planned: "
                "it is another log there, or it changed meanwhile"
            )
        chosen.append(tensor)
    return chosen


def _open(task: PassTask) -> GradientLog:
    held = _opened.get(task.number)
    if held is None:
        _opened.clear()
        with reached_by(task.access), seen_from_worker(task.name):
            held = open_log_as(task.name, task.path, **task.opening)
        _opened[task.number] = held
    return held
