"""What a person sees of a log that is copied into another layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..sizes import extents
from .figures import count, counted, data_size, duration
from .report import Column, Report, Table

if TYPE_CHECKING:
    from ..runs.rechunking import RechunkPlan, RechunkSummary


def rechunk_report(plan: RechunkPlan) -> Report:
    """What would be written, tensor by tensor."""
    tensors = plan.tensors
    columns: list[tuple[Column, list[str]]] = [
        (Column("tensor", "left", shrinks=True), [t.name for t in tensors]),
        (Column("shape", "left"), [extents(t.shape) or "scalar" for t in tensors]),
        (Column("dtype", "left"), [t.dtype for t in tensors]),
        (Column("chunks now", "left", dim=True), [extents(t.chunks_before) for t in tensors]),
        (Column("count", dim=True, yields=1), [count(t.count_before) for t in tensors]),
        (Column("chunks then", "left"), [extents(t.chunks) for t in tensors]),
        (Column("count", yields=1), [count(t.count) for t in tensors]),
    ]
    if plan.decodes > 1.01:
        columns.append((Column("decoded"), [f"{t.decodes:.2f} x" for t in tensors]))
    facts = [
        f"{counted(plan.count, 'row')}, {counted(len(tensors), 'tensor')}, "
        f"{counted(plan.chunks_before, 'chunk')} now, {count(plan.chunks)} then",
        f"{data_size(plan.bytes_read)} of {plan.kind.name}, {data_size(plan.bytes_written)} "
        f"{'before zstd' if plan.compress else 'to write'}, memory {data_size(plan.memory)}, "
        f"roughly {duration(plan.seconds)}",
    ]
    if plan.series:
        facts.append(f"series: {', '.join(plan.series)}")
    return Report(heading=plan.path, facts=tuple(facts), tables=(Table.of("Copy", columns),))


def rechunk_words(summary: RechunkSummary) -> str:
    """One line of what was written."""
    plan = summary.plan
    return (
        f"{summary.out}: {counted(plan.count, 'row')}, {counted(len(plan.tensors), 'tensor')}, "
        f"{data_size(plan.bytes_read)} of {plan.kind.name} in {counted(plan.chunks_before, 'chunk')} to "
        f"{data_size(summary.bytes_written)} in {count(plan.chunks)}, {duration(summary.seconds)}"
    )
