"""One page on one run or on several: what it says, before the template draws it."""

from __future__ import annotations

from collections.abc import Sequence

from ..comparisons.comparison import compare
from ..errors import GradmfError, UsageError
from ..findings.finding_table import find
from ..guarantees.bounding import bounds
from ..plots.drawn_run import names_of
from ..quick_dataclass import dataclass
from ..reports.advice_report import advice_report
from ..reports.analysis_report import analysis_report
from ..reports.bounds_report import bounds_report
from ..reports.comparison_report import comparison_report
from ..reports.comparison_words import letter
from ..reports.findings_report import finding_lines
from ..reports.report import Report, Table
from ..reports.verdict import Answer, glossary, verdict
from ..results.result import Analysis
from .page_figures import PageFigure, other_figures, training_figure
from .provenance import settings_words
from .reported_run import ReportedRun

IN_COMPARISON = ("spectrum", "rank")
"""Panels that show several runs over each other, beside those over training."""
OF_EACH = ("heatmap",)
"""Panels that each of several runs has for itself."""


@dataclass(frozen=True)
class RunPart:
    """What a page says of one run.

    key : begins the ids of its parts; name : short, with its letter where there are several
    tensors : the table of tensors; missing : what bounds and advice lack, and how to get it
    """

    key: str
    name: str
    analysis: Analysis
    size: str
    answers: tuple[Answer, ...]
    training: PageFigure
    findings: tuple[str, ...]
    figures: tuple[PageFigure, ...]
    tables: tuple[Table, ...]
    tensors: Table
    bounds: Report
    advice: Report
    bounds_missing: str
    advice_missing: str
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ComparisonPart:
    """name : of both runs; report : None where `why` says why they cannot be compared"""

    name: str
    report: Report | None
    why: str = ""


@dataclass(frozen=True)
class Page:
    """comparisons : of each run with the first; figures : of all runs over each other; none of one alone"""

    title: str
    runs: tuple[RunPart, ...]
    comparisons: tuple[ComparisonPart, ...]
    figures: tuple[PageFigure, ...]
    glossary: tuple[tuple[str, str], ...]


def page_of(runs: Sequence[ReportedRun], labels: Sequence[str] = ()) -> Page:
    """All that a page says. labels : of the runs; by default the last part of their paths

    Raises UsageError for no runs, for labels of other runs, and for more runs than can be told apart.
    """
    if not runs:
        raise UsageError("no runs to report")
    if labels and len(labels) != len(runs):
        raise UsageError(f"{len(labels)} labels for {len(runs)} runs")
    analyses = [run.analysis for run in runs]
    names = list(labels or names_of([analysis.run.path for analysis in analyses]))
    several = len(runs) > 1
    if several:
        names = [f"{letter(number)}: {name}" for number, name in enumerate(names)]
    figures: list[PageFigure] = []
    if several:
        figures = [training_figure(analyses, "all", names)]
        figures += other_figures(analyses, "all", names, IN_COMPARISON)
    parts = [
        _part(run, f"run-{number}", name, several)
        for number, (run, name) in enumerate(zip(runs, names, strict=True), 1)
    ]
    return Page(
        title=f"gradmf: {', '.join(names)}" if len(names) < 4 else f"gradmf: {len(names)} runs",
        runs=tuple(parts),
        comparisons=tuple(_comparison(analyses, number, names) for number in range(1, len(runs))),
        figures=tuple(figures),
        glossary=glossary(analyses[0]),
    )


def _part(run: ReportedRun, key: str, name: str, several: bool) -> RunPart:
    analysis = run.analysis
    found, worth = find(analysis), bounds(analysis)
    shown = analysis_report(analysis, top=0)
    return RunPart(
        key=key,
        name=name,
        analysis=analysis,
        size=shown.facts[0],  # the next one says how long the pass took
        answers=verdict(analysis, found, worth),
        training=training_figure([analysis], key, [name]),
        findings=finding_lines(found, most=None),
        figures=tuple(other_figures([analysis], key, [name], OF_EACH if several else ())),
        tables=shown.tables[:-1],
        tensors=shown.tables[-1],
        bounds=bounds_report(worth, most_tensors=None),
        advice=advice_report(run.advice, top=0, most_reasons=None),
        bounds_missing=_bounds_missing(analysis),
        advice_missing=_advice_missing(run),
        settings=tuple(settings_words(analysis.settings)),
    )


def _bounds_missing(analysis: Analysis) -> str:
    if analysis.search is not None or analysis.total.estimated:
        return ""
    return (
        "The result holds no search for predictors: give the log itself, or a result of analyze --search, "
        "for the best ones in hindsight and what they are worth."
    )


def _advice_missing(run: ReportedRun) -> str:
    if run.advice.samples or run.analysis.total.estimated:
        return ""
    return (
        "Made of results, or of tensors that are no matrices: what follows from matrices of "
        f"{run.analysis.run.kind.name} is left open. Give the log itself."
    )


def _comparison(analyses: Sequence[Analysis], number: int, names: Sequence[str]) -> ComparisonPart:
    name = f"{names[number]} against {names[0]}"
    try:
        compared = compare(analyses[0], analyses[number])
    except GradmfError as error:
        return ComparisonPart(name, None, str(error))
    return ComparisonPart(name, comparison_report(compared, number, top=0))


def headings(page: Page) -> list[tuple[str, str]]:
    """Ids and names of the sections of a page, for its table of contents."""
    found = [("comparison", "Comparison")] if page.comparisons else []
    for run in page.runs:
        before = f"{run.name}: " if len(page.runs) > 1 else ""
        sections = ("verdict", "findings", "figures", "tables", "tensors", "bounds", "advice")
        found += [
            (f"{run.key}-{section}", f"{before}{section.capitalize()}")
            for section in (sections if not before else ("verdict", "tensors"))
        ]
    return [*found, ("reproduction", "Reproduction")]
