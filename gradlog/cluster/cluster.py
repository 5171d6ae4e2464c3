"""Analyses in parts: how many there are, what is sent to workers, and what comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..logs.places.access import current_access
from ..logs.places.remote_url import is_url
from ..progress import Progress
from .workers import PATIENCE, ThisProcess, Workers, added_up

if TYPE_CHECKING:
    from ..engine.one_pass import Gathered
    from ..engine.pass_work import PassWork
    from ..logs.log import GradientLog, Tensor
    from ..logs.opening import Opening

PART_BYTES = 128 << 20
"""Of gradients, decoded, that a part reads at least, where nobody says how many parts there are."""
SUMS_SHARE = 16
"""A part reads at least so many times the bytes of a matrix of N x N, which it hands on."""
MOST_PARTS = 4096


class Cluster:
    """Takes analyses in parts. parts : how many, None for what a log's size makes of it

    whole_runs : there are many runs: a task takes one of them whole, unless it is to be cut
    """

    def __init__(self, workers: Workers, parts: int | None = None, *, whole_runs: bool = False) -> None:
        self.workers = workers
        self.whole_runs = whole_runs and parts is None
        self.parts = parts

    def take(self, log: GradientLog, opening: Opening, work: PassWork, progress: Progress | None) -> Gathered:
        """One pass over a log, whose plan was made for as many parts.

        Raises what the work raises in this process, ClusterError where workers are lost, and UsageError for
        a log that they cannot open.
        """
        from uuid import uuid4  # deferred, as the others: few analyses are taken by a cluster

        from ..engine.range_table import Ranges
        from ..engine.splitting import split
        from .part_tasks import PartTask, PassTask, add_parts, finished, seen_of, take_part

        assert self.parts is not None
        plan = work.plan
        common = PassTask(
            number=uuid4().hex,
            path=path_for_workers(log),
            name=log.path,
            access=current_access(),
            opening=opening,
            seen=seen_of(work.tensors),
            plan=replace(plan, ranges=Ranges()),
            strips=plan.strips,
            specs=work.bank.specs,
            keep=work.keep,
        )
        tasks = [PartTask(each.ranges, each.decoded_bytes) for each in split(plan, work.tensors, self.parts)]
        with self.workers.job(progress, plan.decoded_bytes) as job:
            sums = job.value(added_up(job, add_parts, job.map(take_part, tasks, common), common))
        if progress is not None:
            progress(plan.decoded_bytes, plan.decoded_bytes)
        return finished(sums, work, common)


def parts_of_log(tensors: Sequence[Tensor], rows: int) -> int:
    """How many parts so many rows of tensors are cut into, where nobody says it.

    It follows from their size alone: the bits of a result never depend on workers.
    """
    return parts_of_size(sum(rows * tensor.parameters * tensor.entry_bytes for tensor in tensors), rows)


def parts_of_size(decoded_bytes: int, rows: int) -> int:
    """As `parts_of_log`, of a log of so many bytes."""
    least = max(PART_BYTES, SUMS_SHARE * 8 * rows**2)
    return max(1, min(MOST_PARTS, -(-decoded_bytes // least)))


def path_for_workers(log: GradientLog) -> str:
    """The path or URL by which workers open a log. Raises UsageError where none leads back to it."""
    if log.source is None:
        raise UsageError(f"{log.path}: a cluster takes logs by path or URL: its workers open them themselves")
    return shared_path(log.source)


def shared_path(path: str) -> str:
    """The path or URL by which workers find what lies at `path` for this process."""
    return path if is_url(path) else str(Path(path).absolute())


_current: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


def current_cluster() -> Cluster | None:
    """The cluster that takes analyses here, None where this process does."""
    return _current.get()


@contextlib.contextmanager
def taken_by(cluster: Cluster | None) -> Iterator[None]:
    """Let analyses in the block be taken by a cluster, or by this process."""
    token = _current.set(cluster)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def on_cluster(
    address: str | None = None,
    *,
    parts: int | None = None,
    whole_runs: bool = False,
    patience: float = PATIENCE,
) -> Iterator[Cluster]:
    """Let analyses in the block be taken in parts, by the workers of a Dask cluster or one after the other.

    Parameters
    ----------
    address : of a Dask scheduler, as tcp://HOST:8786; the path of its scheduler file; `local` or `local:N`
        for N new processes on this machine; None for this process
    parts : K, that a log is cut into; by default what its size makes of it. Results have the same bits for
        any workers, and those of `merge_parts` for the same K
    whole_runs : each run is taken by one task, which takes it as one process does, unless it is very large
    patience : seconds without any worker after which the work is given up

    Raises ClusterError where workers cannot be reached, or have another gradmf, and UsageError for addresses
    that are none or where distributed (the extra `dask`) is not installed.
    """
    if parts is not None and parts < 1:
        raise UsageError(f"parts {parts}: must be at least 1")
    with contextlib.ExitStack() as held:
        if address is None:
            workers: Workers = ThisProcess()
        else:
            from .dask_workers import open_workers  # deferred: distributed takes a second to load

            workers = held.enter_context(open_workers(address, patience=patience))
        cluster = Cluster(workers, parts, whole_runs=whole_runs)
        with taken_by(cluster):
            yield cluster
