"""Reports as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from gradmf.gradlog.reports.report import Column, Report, Table
from gradmf.gradlog.reports.sparkline import ASCII, BLOCKS, IN_ASCII, draw_sparkline

from ..terminal.messages import printable
from .rendering import Page, Views, apart

SPARKLINE_WIDTH = 60


def write_markdown(results: Iterable[Any], views: Views[Any], page: Page) -> Iterator[str]:
    """Each report as a section."""
    return apart(draw_markdown(report, unicode=page.terminal.unicode) for report in views.reports(results))


def draw_markdown(report: Report, *, unicode: bool = True) -> str:
    """The report as a section with its tables."""
    parts = [f"## {_escape(report.heading)}", *map(_escape, report.facts)]
    if report.findings:
        parts += ["### Findings", "\n".join(f"- {_escape(line)}" for line in report.findings)]
    for table in report.tables:
        drawn_table = _table(table)
        parts += [f"### {_escape(table.title)}", drawn_table if unicode else drawn_table.translate(IN_ASCII)]
        if table.note:
            parts.append(_escape(table.note))
    for series in report.series:
        drawn = draw_sparkline(series.values, SPARKLINE_WIDTH, BLOCKS if unicode else ASCII)
        if drawn is not None:
            caption = drawn.caption(series.each)
            parts += [f"### {_escape(series.title)}", f"`{drawn.text}`", _escape(caption)]
    parts += map(_escape, report.words)
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    rows = [
        [_escape(column.heading) for column in table.columns],
        [_rule(column) for column in table.columns],
    ]
    for position, texts in enumerate(table.rows):
        cells = [_escape(text) for text in texts]
        rows.append([f"**{cell}**" if cell and position == table.marked else cell for cell in cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for position, row in enumerate(rows):
        padded = [
            _rule(column, width) if position == 1 else _pad(cell, column, width)
            for cell, column, width in zip(row, table.columns, widths, strict=True)
        ]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)


def _rule(column: Column, width: int = 3) -> str:
    return "-" * width if column.align == "left" else "-" * (width - 1) + ":"


def _pad(cell: str, column: Column, width: int) -> str:
    return cell.ljust(width) if column.align == "left" else cell.rjust(width)


def _escape(text: str) -> str:
    """`text` with what Markdown would take for markup escaped."""
    # An underscore within a word is no markup.
    return re.sub(r"[\\`*|<>\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", printable(text))
