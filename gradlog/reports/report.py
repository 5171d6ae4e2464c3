"""A report of one run as text in tables, before anyone draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

from ..quick_dataclass import dataclass


@dataclass(frozen=True)
class Column:
    """A column. dim : secondary; shrinks : its cells may be shortened in the middle on a narrow terminal

    yields : a narrow terminal leaves out the columns of the highest number first, those of 0 never,
    and those of 1 only when shortening does not help
    """

    heading: str
    align: Literal["left", "right", "decimal"] = "right"
    dim: bool = False
    shrinks: bool = False
    yields: int = 0


MOST_ROWS = 20
"""Of a long table that a terminal shows, where nothing else was asked for."""


@dataclass(frozen=True)
class Fold:
    """Where a terminal stops to show a long table. rows : that it shows; note : on the others"""

    rows: int
    note: str


@dataclass(frozen=True)
class Table:
    """Cells by row. marked : the row that stands out; note : what is said under the table

    fold : where a terminal shows the first rows alone
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None
    note: str = ""
    fold: Fold | None = None

    @classmethod
    def of(
        cls,
        title: str,
        columns: Sequence[tuple[Column, Sequence[str]]],
        *,
        marked: int | None = None,
        note: str = "",
        fold: Fold | None = None,
    ) -> Self:
        """From columns, each with its cells from top to bottom. Raises ValueError where lengths differ."""
        rows = tuple(zip(*(cells for _, cells in columns), strict=True))
        return cls(title, tuple(column for column, _ in columns), rows, marked, note, fold)

    def folded(self) -> Self:
        """As a terminal shows it."""
        if self.fold is None:
            return self
        note = "; ".join(filter(None, (self.fold.note, self.note)))
        return replace(self, rows=self.rows[: self.fold.rows], note=note, fold=None)


@dataclass(frozen=True)
class Series:
    """Values over training, drawn as a sparkline. each : what one value stands for"""

    title: str
    values: tuple[float, ...]
    each: str = "steps"


@dataclass(frozen=True)
class Report:
    """One run: what was read, what was found, and what it means in words. findings : what stands out"""

    heading: str
    facts: tuple[str, ...]
    tables: tuple[Table, ...]
    series: tuple[Series, ...] = ()
    words: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
