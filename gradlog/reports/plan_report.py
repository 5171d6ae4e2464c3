"""The report of what an analysis would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .figures import count, counted, data_size, duration, run_size
from .report import Column, Report, Table

if TYPE_CHECKING:
    from ..cluster.estimate import ClusterEstimate
    from ..runs.planning import PlanDescription

STAGES = {
    "network": "read over the network",
    "reading": "decoding and sums",
    "products": "products of rows",
    "spectra": "spectra of tensors",
    "adding": "adding what parts hand on",
    "at_end": "spectrum of the model, in the client",
}
"""As of `Stages`, in the words of the table."""


def plan_report(plan: PlanDescription) -> Report:
    """All that a person sees of `plan`."""
    facts = (run_size(plan.rows, (), plan.tensors, plan.parameters),)
    rows = (
        ("rank method", plan.method),
        ("decoded", data_size(plan.decoded_bytes)),
        ("passes over a chunk", f"{plan.decodes}"),
        ("memory" if plan.cluster is None else "memory of a worker", data_size(plan.memory)),
        ("time, roughly" if plan.cluster is None else "time on two cores, roughly", duration(plan.seconds)),
    )
    table = Table("Plan", (Column("", "left"), Column("", "left")), rows)
    others = () if plan.cluster is None else (_workers(plan.cluster), _stages(plan.cluster))
    return Report(heading=plan.path, facts=facts, tables=(table, *others), words=plan.words)


def _workers(cluster: ClusterEstimate) -> Table:
    read = "nothing: the log is near"
    if cluster.read_bytes is not None:
        read = f"{data_size(cluster.read_bytes)} in {counted(cluster.chunks, 'request')}"
    levels = counted(len(cluster.levels), "level")
    rows = (
        ("parts", f"{count(cluster.parts)}, of up to {data_size(cluster.part_bytes)}"),
        ("read by a worker", data_size(cluster.worker_bytes)),
        ("memory of one that adds", data_size(cluster.adding_memory)),
        ("read over the network", read),
        ("handed on over the network", f"{data_size(cluster.state_bytes)} in {levels}"),
        ("time, roughly", duration(cluster.seconds)),
    )
    title = f"{counted(cluster.workers, 'worker')} of one thread"
    return Table(title, (Column("", "left"), Column("", "left")), rows)


def _stages(cluster: ClusterEstimate) -> Table:
    work, stages = vars(cluster.work), vars(cluster.stages)
    total = sum(stages.values())
    shares = [seconds / total for seconds in stages.values()]
    return Table.of(
        "Stages",
        [
            (Column("", "left"), [STAGES[name] for name in stages]),
            (Column("of one core"), [duration(work[name]) if name in work else "-" for name in stages]),
            (Column("of the workers"), [duration(seconds) for seconds in stages.values()]),
            (Column("share"), [f"{100 * share:.0f}%" for share in shares]),
        ],
        marked=list(stages).index(cluster.bottleneck),
    )
