"""The report of what an import would read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..sizes import extents
from .figures import count, data_size, run_size
from .report import Column, Report, Table

if TYPE_CHECKING:
    from ..importing.import_plan import ImportPlan


def import_report(plan: ImportPlan) -> Report:
    """All that a person sees of `plan`."""
    steps = [source.step for source in plan.steps][plan.updates :]
    parameters = sum(tensor.parameters for tensor in plan.tensors)
    facts = [
        run_size(plan.rows, steps, len(plan.tensors), parameters),
        row_words(plan),
        f"{data_size(plan.bytes_read)} to read, {data_size(plan.bytes_written)} to write",
    ]
    if plan.taken:
        facts.append(f"taken: {plan.taken}")
    if plan.series:
        facts.append(f"series: {', '.join(plan.series)}")
    tables = [_steps(plan), _tensors(plan)]
    if plan.left_out:
        columns = (Column("", "left"), Column("why", "left", shrinks=True))
        tables.append(Table("Left out", columns, tuple(plan.left_out.items())))
    return Report(heading="what an import would do", facts=tuple(facts), tables=tuple(tables))


def row_words(plan: ImportPlan) -> str:
    """What the rows are: ``gradients`` or ``updates over 100 steps each``."""
    if not plan.updates:
        return "gradients"
    if plan.every is None:
        return "updates over unequal numbers of steps"
    return f"updates over {count(plan.every)} step{'' if plan.every == 1 else 's'} each"


def _steps(plan: ImportPlan) -> Table:
    return Table.of(
        "Steps",
        [
            (Column("step"), [str(source.step) for source in plan.steps]),
            (Column("source", "left", shrinks=True), [source.place for source in plan.steps]),
            (Column("size"), [data_size(source.bytes) for source in plan.steps]),
        ],
        note="The first is what the second is held against." if plan.updates else "",
    )


def _tensors(plan: ImportPlan) -> Table:
    return Table.of(
        "Tensors",
        [
            (Column("tensor", "left", shrinks=True), [tensor.name for tensor in plan.tensors]),
            (Column("shape", "left"), [extents(tensor.shape) or "scalar" for tensor in plan.tensors]),
            (Column("dtype", "left"), [tensor.source_dtype for tensor in plan.tensors]),
            (Column("written as", "left"), [tensor.dtype for tensor in plan.tensors]),
        ],
    )
