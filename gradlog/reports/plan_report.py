"""The report of what an analysis would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .figures import data_size, duration, run_size
from .report import Column, Report, Table

if TYPE_CHECKING:
    from ..runs.planning import PlanDescription


def plan_report(plan: PlanDescription) -> Report:
    """All that a person sees of `plan`."""
    facts = (run_size(plan.rows, (), plan.tensors, plan.parameters),)
    rows = (
        ("rank method", plan.method),
        ("decoded", data_size(plan.decoded_bytes)),
        ("passes over a chunk", f"{plan.decodes}"),
        ("memory", data_size(plan.memory)),
        ("time, roughly", duration(plan.seconds)),
    )
    table = Table("Plan", (Column("", "left"), Column("", "left")), rows)
    return Report(heading=plan.path, facts=facts, tables=(table,), words=plan.words)
