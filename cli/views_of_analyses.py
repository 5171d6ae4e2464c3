"""How analyses look in each format, and the plans for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradmf.gradlog import analysis_document, plan_document

from .analysis_report import analysis_report
from .as_csv import write_analyses
from .plan_report import plan_report
from .rendering import Views

if TYPE_CHECKING:
    from gradmf.gradlog import Analysis, PlanDescription


def views_of_analyses(*, quiet: bool, steps: bool) -> Views[Analysis]:
    """steps : whether JSON Lines hold the per-step series, as json always does"""
    return Views(
        document=analysis_document,
        report=lambda analysis, _: analysis_report(analysis, quiet=quiet),
        rows=write_analyses,
        line=lambda analysis: analysis_document(analysis, steps=steps),
    )


def views_of_plans() -> Views[PlanDescription]:
    """For any format but csv."""
    return Views(plan_document, lambda plan, _: plan_report(plan), rows=None)
