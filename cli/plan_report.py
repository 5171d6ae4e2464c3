"""The report of what an analysis would do."""

from __future__ import annotations

from gradmf.gradlog import PlanDescription

from .figures import counted, data_size, duration
from .report import Column, Report, Table


def plan_report(plan: PlanDescription) -> Report:
    """All that a person sees of `plan`."""
    facts = (
        f"{counted(plan.rows, 'row')}, {counted(plan.tensors, 'tensor')}, "
        f"{counted(plan.parameters, 'parameter')}",
    )
    rows = (
        ("rank method", plan.method),
        ("decoded", data_size(plan.decoded_bytes)),
        ("passes over a chunk", f"{plan.decodes}"),
        ("memory", data_size(plan.memory)),
        ("time, roughly", duration(plan.seconds)),
    )
    table = Table("Plan", (Column("", "left"), Column("", "left")), rows)
    return Report(heading=plan.path, facts=facts, tables=(table,), words=plan.words)
