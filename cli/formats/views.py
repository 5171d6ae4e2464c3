"""How each kind of result looks in each format; reports are imported where a person is to see one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradmf import gradlog

from . import as_csv
from .rendering import Views

if TYPE_CHECKING:
    from gradmf.gradlog import (
        Advice,
        Analysis,
        Bounds,
        Comparison,
        Finding,
        LogDescription,
        PlanDescription,
        Settings,
        Thresholds,
    )
    from gradmf.gradlog.logs.places.files_beside import FilesBeside
    from gradmf.gradlog.reports.report import Report


def views_of_analyses(
    settings: Settings,
    *,
    quiet: bool,
    steps: bool,
    top: int | None = None,
    thresholds: Thresholds | None = None,
) -> Views[Analysis]:
    """steps : whether JSON Lines hold the per-step series, as json always does

    top : rows of long tables on a terminal, 0 for all; thresholds : of findings, None for no findings
    """

    def findings(analysis: Analysis) -> tuple[Finding, ...] | None:
        return None if thresholds is None else gradlog.find(analysis, thresholds)

    def report(analysis: Analysis, _number: int) -> Report:
        from gradmf.gradlog.reports.analysis_report import analysis_report

        return analysis_report(analysis, quiet=quiet, top=top, findings=findings(analysis) or ())

    def views(beside: FilesBeside | None = None) -> Views[Analysis]:
        def document(analysis: Analysis, steps: bool = True) -> dict[str, Any]:
            return gradlog.analysis_document(
                analysis, steps=steps, findings=findings(analysis), beside=beside
            )

        return Views(
            document,
            report,
            as_csv.write_analyses,
            _columns_of(settings),
            line=lambda analysis: document(analysis, steps),
            beside=views,
        )

    return views()


def views_of_plans(settings: Settings) -> Views[PlanDescription]:
    """For formats that don't take rows."""

    def report(plan: PlanDescription, _number: int) -> Report:
        from gradmf.gradlog.reports.plan_report import plan_report

        return plan_report(plan)

    return Views(gradlog.plan_document, report, rows=None, columns=_columns_of(settings))


def _columns_of(settings: Settings) -> tuple[str, ...]:
    known = gradlog.Vocabulary.of(settings)
    return as_csv.analysis_columns(
        known.predictors,
        known.epsilons,
        subspace=settings.subspace is not None,
        windows=settings.windows is not None,
    )


def views_of_comparisons(*, quiet: bool, top: int | None = None) -> Views[Comparison]:
    """Of runs with their baseline. top : rows of long tables on a terminal, 0 for all"""

    def report(compared: Comparison, number: int) -> Report:
        from gradmf.gradlog.reports.comparison_report import comparison_report

        return comparison_report(compared, number, quiet=quiet, top=top)

    columns = as_csv.COMPARISON_COLUMNS
    return Views(gradlog.comparison_document, report, as_csv.write_comparisons, columns)


def views_of_bounds(*, quiet: bool, curves: bool) -> Views[Bounds]:
    """curves : whether rows are the curves, and JSON Lines hold them too, as json always does"""

    def report(bounds: Bounds, _number: int) -> Report:
        from gradmf.gradlog.reports.bounds_report import bounds_report

        return bounds_report(bounds, quiet=quiet)

    return Views(
        gradlog.bounds_document,
        report,
        as_csv.write_curves if curves else as_csv.write_bounds,
        as_csv.CURVE_COLUMNS if curves else as_csv.BOUNDS_COLUMNS,
        line=lambda bounds: gradlog.bounds_document(bounds, curves=curves),
    )


def views_of_advice(*, quiet: bool, top: int | None = None) -> Views[Advice]:
    """Of what gradients say about the optimizer. top : rows of long tables on a terminal, 0 for all"""

    def report(advice: Advice, _number: int) -> Report:
        from gradmf.gradlog.reports.advice_report import advice_report

        return advice_report(advice, quiet=quiet, top=top)

    return Views(gradlog.advice_document, report, as_csv.write_advice, as_csv.ADVICE_COLUMNS)


def views_of_descriptions() -> Views[LogDescription]:
    """Of what is in stores."""

    def report(log: LogDescription, _number: int) -> Report:
        from gradmf.gradlog.reports.info_report import info_report

        return info_report(log)

    return Views(gradlog.description_document, report, as_csv.write_descriptions, as_csv.DESCRIPTION_COLUMNS)
