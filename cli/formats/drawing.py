"""Reports one after another, for people: aligned text or Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..reports.report import Report
from ..terminal.terminal import Terminal


def draw_reports(reports: Iterable[Report], format: str, terminal: Terminal) -> Iterator[str]:
    """Each report as text, with an empty line before all but the first."""
    between = ""
    for report in reports:
        if format == "markdown":
            from .as_markdown import draw_markdown

            text = draw_markdown(report, unicode=terminal.unicode)
        else:
            from .as_table import draw_table

            text = draw_table(report, terminal)
        yield between + text
        between = "\n"
