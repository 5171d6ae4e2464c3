"""How analyses look in each format, and the plans for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradmf.gradlog import analysis_document, plan_document

from .as_csv import write_analyses
from .rendering import Views

if TYPE_CHECKING:
    from gradmf.gradlog import Analysis, PlanDescription

    from ..reports.report import Report


def views_of_analyses(*, quiet: bool, steps: bool) -> Views[Analysis]:
    """steps : whether JSON Lines hold the per-step series, as json always does"""

    def report(analysis: Analysis, _number: int) -> Report:
        from ..reports.analysis_report import analysis_report

        return analysis_report(analysis, quiet=quiet)

    return Views(
        document=analysis_document,
        report=report,
        rows=write_analyses,
        line=lambda analysis: analysis_document(analysis, steps=steps),
    )


def views_of_plans() -> Views[PlanDescription]:
    """For any format but csv."""

    def report(plan: PlanDescription, _number: int) -> Report:
        from ..reports.plan_report import plan_report

        return plan_report(plan)

    return Views(plan_document, report, rows=None)
