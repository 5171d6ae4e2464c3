"""Reports as aligned text: coloured and fitted to a terminal, whole and plain in a pipe."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gradmf.gradlog.reports.report import Column, Report, Series, Table
from gradmf.gradlog.reports.sparkline import ASCII, BLOCKS, IN_ASCII, draw_sparkline

from ..terminal.messages import printable
from ..terminal.terminal import Terminal
from .layout import GAP, fit
from .rendering import Page, Views, apart
from .shortening import shorten

SIDE_GAP = 6
SPARKLINE_WIDTH = 100
SPARKLINE_WIDTH_IN_PIPE = 60

Block = list[Text]


def write_tables(results: Iterable[Any], views: Views[Any], page: Page) -> Iterator[str]:
    """Each report as lines of text."""
    return apart(draw_table(report, page.terminal) for report in views.reports(results))


def draw_table(report: Report, terminal: Terminal) -> str:
    """The report as lines of text, with colour codes only where `terminal` has colour."""
    heading = printable(report.heading)
    if terminal.width is not None:
        heading = shorten(heading, terminal.width, unicode=terminal.unicode)
    lines: Block = [Text(heading, "bold")]
    lines += [Text(line, "dim") for fact in report.facts for line in _wrap(fact, terminal)]
    if report.findings:
        lines += [Text(""), Text("Findings", "bold"), *_list(report.findings, terminal)]
    tables = report.tables if terminal.width is None else tuple(table.folded() for table in report.tables)
    fitted = [fit(table, terminal) for table in tables]
    blocks = [_table(table, *of_table, terminal) for table, of_table in zip(tables, fitted, strict=True)]
    for block in _side_by_side(blocks, terminal):
        lines += [Text(""), *block]
    for series in report.series:
        lines += _series(series, terminal)
    if report.words:
        lines += [Text(""), *(Text(line) for words in report.words for line in _wrap(words, terminal))]
    lost = _left_out(report.tables, fitted)
    if lost:
        told = f"Left out to fit {terminal.width} columns: {', '.join(lost)}."
        apart = [] if report.words else [Text("")]
        lines += [*apart, *(Text(line, "dim") for line in _wrap(told, terminal))]
    return _paint(lines, terminal)


def _left_out(tables: Sequence[Table], fitted: Sequence[tuple[list[Column], list[list[str]]]]) -> list[str]:
    """Headings of columns that had no room, each once."""
    lost = [
        column.heading
        for table, (shown, _) in zip(tables, fitted, strict=True)
        for column in table.columns
        if column not in shown and column.heading
    ]
    return list(dict.fromkeys(lost))


def _table(
    table: Table, columns: Sequence[Column], cells: Sequence[Sequence[str]], terminal: Terminal
) -> Block:
    widths = [max(map(cell_len, column)) for column in cells]
    styles = ["dim" if column.dim else "" for column in columns]
    rule = ("─" if terminal.unicode else "-") * (sum(widths) + GAP * (len(widths) - 1))
    block = [Text(table.title, "bold")]
    for position, row in enumerate(zip(*cells, strict=True)):
        row = row if terminal.unicode else tuple(cell.translate(IN_ASCII) for cell in row)
        marked = table.marked is not None and position == table.marked + 1
        line = Text("", "green" if marked else "dim" if position == 0 else "")
        for at, (cell, style) in enumerate(zip(row, styles, strict=True)):
            line.append(cell, None if marked or position == 0 else style)
            line.append(" " * (GAP if at < len(row) - 1 else 0))
        block.append(line)
        if position == 0 and terminal.rules:
            block.append(Text(rule, "dim"))
    if table.note:
        block += [Text(line, "dim") for line in _wrap(table.note, terminal)]
    return block


def _side_by_side(blocks: list[Block], terminal: Terminal) -> list[Block]:
    """The first two blocks next to each other where a wide terminal has room."""
    if terminal.width is None or len(blocks) < 3:
        return blocks
    left, right, *rest = blocks
    left_width, right_width = (max(line.cell_len for line in block) for block in (left, right))
    if left_width + SIDE_GAP + right_width > terminal.width:
        return blocks
    joined: Block = []
    for at in range(max(len(left), len(right))):
        line, beside = (block[at] if at < len(block) else Text("") for block in (left, right))
        joined.append(Text.assemble(line, " " * (left_width + SIDE_GAP - line.cell_len), beside))
    return [joined, *rest]


def _series(series: Series, terminal: Terminal) -> Block:
    width = SPARKLINE_WIDTH_IN_PIPE if terminal.width is None else min(SPARKLINE_WIDTH, terminal.width)
    drawn = draw_sparkline(series.values, width, BLOCKS if terminal.unicode else ASCII)
    if drawn is None:
        return []
    return [
        Text(""),
        *(Text(line, "bold") for line in _wrap(series.title, terminal)),
        Text(drawn.text, "cyan"),
        *(Text(line, "dim") for line in _wrap(drawn.caption(series.each), terminal)),
    ]


def _list(items: Sequence[str], terminal: Terminal) -> Block:
    """Each behind a dash, and its further lines below its first word."""
    lines: Block = []
    for item in items:
        first, *others = _wrap(item, terminal, indent=2)
        lines += [Text(f"- {first}"), *(Text(f"  {line}") for line in others)]
    return lines


def _wrap(text: str, terminal: Terminal, indent: int = 0) -> list[str]:
    text = printable(text)
    if terminal.width is None:
        return [text]
    width = max(20, terminal.width - indent)
    return textwrap.wrap(text, width, break_long_words=True, break_on_hyphens=False) or [""]


def _paint(lines: Block, terminal: Terminal) -> str:
    for line in lines:
        line.rstrip()
    if not terminal.color:
        return "".join(f"{line.plain}\n" for line in lines)
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=True, color_system="standard", width=terminal.width, _environ={}
    )
    console.print(Text("\n").join(lines), soft_wrap=True, highlight=False)
    return stream.getvalue()
