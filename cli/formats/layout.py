"""Which columns of a table fit, and their cells, aligned and all of one width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.cells import cell_len

from gradmf.gradlog.reports.report import Column, Table

from ..terminal.messages import printable
from ..terminal.terminal import Terminal
from .shortening import shorten_all

GAP = 2
"""Spaces between columns."""
READABLE_WIDTH = 16
"""What names keep as long as a column can be left out instead."""
LEAST_WIDTH = 6


def fit(table: Table, terminal: Terminal) -> tuple[list[Column], list[list[str]]]:
    """Columns that fit, and for each its heading and cells, all of one width.

    Decimal points that stand under one another take room: they don't where a column would go for it.
    """
    columns = table.columns
    texts = [[printable(row[at]) for row in table.rows] for at in range(len(columns))]
    fitted = _fit(columns, texts, terminal)
    if len(fitted[0]) < len(columns):
        closer = [
            replace(column, align="right") if column.align == "decimal" else column for column in columns
        ]
        narrow = _fit(closer, texts, terminal)
        if len(narrow[0]) > len(fitted[0]):
            fitted = narrow
    shown, cells = fitted
    return [columns[at] for at in shown], [cells[at] for at in shown]


def _fit(
    columns: Sequence[Column], texts: Sequence[list[str]], terminal: Terminal
) -> tuple[list[int], list[list[str]]]:
    """Which columns fit, and the cells of all, aligned."""
    cells = [_align(column, of_column) for column, of_column in zip(columns, texts, strict=True)]
    shown = list(range(len(columns)))
    if terminal.width is not None:
        shrinking = next((at for at in shown if columns[at].shrinks), 0)
        wanted = cell_len(cells[shrinking][0])
        room = terminal.width - sum(cell_len(cells[at][0]) + GAP for at in shown if at != shrinking)
        for at in sorted(shown, key=lambda at: (-columns[at].yields, -at)):
            yields = columns[at].yields
            if yields == 0 or room >= wanted:
                break
            if yields > 1 or not _readable(texts[shrinking], room, unicode=terminal.unicode):
                shown.remove(at)
                room += cell_len(cells[at][0]) + GAP
        if room < wanted and columns[shrinking].shrinks:
            short = shorten_all(texts[shrinking], max(LEAST_WIDTH, room), unicode=terminal.unicode)
            cells[shrinking] = _align(columns[shrinking], short)
    return shown, cells


def _readable(names: Sequence[str], width: int, *, unicode: bool) -> bool:
    """Whether names cut to `width` still tell one from another."""
    return width >= READABLE_WIDTH and len(set(shorten_all(names, width, unicode=unicode))) == len(set(names))


def _align(column: Column, texts: Sequence[str]) -> list[str]:
    """The heading and the cells, filled up with spaces to one width."""
    if column.align == "decimal":
        texts = _align_decimals(texts)
    width = max(map(cell_len, (column.heading, *texts)))
    spaces = [" " * (width - cell_len(text)) for text in (column.heading, *texts)]
    if column.align == "left":
        return [text + space for text, space in zip((column.heading, *texts), spaces, strict=True)]
    return [space + text for text, space in zip((column.heading, *texts), spaces, strict=True)]


def _align_decimals(texts: Sequence[str]) -> list[str]:
    """Numbers with their decimal points under one another."""
    tails = [len(text) - len(_whole(text)) for text in texts]
    longest = max(tails, default=0)
    return [text + " " * (longest - tail) for text, tail in zip(texts, tails, strict=True)]


def _whole(text: str) -> str:
    return text.partition(".")[0].removesuffix("%")
