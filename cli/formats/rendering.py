"""The formats there are, and results in the one that was asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from gradmf.gradlog.quick_dataclass import dataclass

if TYPE_CHECKING:
    from gradmf.gradlog.logs.places.files_beside import FilesBeside
    from gradmf.gradlog.reports.report import Report

    from ..terminal.terminal import Terminal

_R = TypeVar("_R")

Takes = Literal["documents", "reports", "rows"]


@dataclass(frozen=True)
class Format:
    """writer : "module.function" beside this one; takes : what of each result it shows, as `Views` has it"""

    writer: str
    takes: Takes


FORMATS = {
    "table": Format("as_table.write_tables", takes="reports"),
    "json": Format("as_json.write_document", takes="documents"),
    "jsonl": Format("as_json.write_lines", takes="documents"),
    "csv": Format("as_csv.write_csv", takes="rows"),
    "markdown": Format("as_markdown.write_markdown", takes="reports"),
}
"""What --format offers, the default first. A writer is imported when its format is asked for."""


@dataclass(frozen=True)
class Views(Generic[_R]):
    """How results of one kind look.

    document : JSON of one; report : what a person sees of one, and of which: 1 for the first;
    rows : CSV of all, with columns in this order, None where there is none; columns : those there are;
    line : as `document`, where JSON Lines differ from it
    beside : the same views where long tables of documents go into files beside them; None where none have any
    """

    document: Callable[[_R], dict[str, Any]]
    report: Callable[[_R, int], Report]
    rows: Callable[[Iterable[_R], Sequence[str]], Iterator[str]] | None
    columns: Sequence[str]
    line: Callable[[_R], dict[str, Any]] | None = None
    beside: Callable[[FilesBeside], Views[_R]] | None = None

    def reports(self, results: Iterable[_R]) -> Iterator[Report]:
        """What a person sees of each."""
        return (self.report(result, number) for number, result in enumerate(results, 1))


@dataclass(frozen=True)
class Page:
    """What results are written on.

    several : whether there may be several, by the command line; columns : of rows, in order
    """

    terminal: Terminal
    encoding: str
    several: bool = False
    columns: Sequence[str] = ()


Writer = Callable[[Iterable[Any], Views[Any], Page], Iterator[str]]
"""Gives pieces of text, each as soon as its result is there."""


def render(results: Iterable[_R], views: Views[_R], format: str, page: Page) -> Iterator[str]:
    """Pieces of text, each as soon as its result is there."""
    module, _, function = FORMATS[format].writer.partition(".")
    writer = cast("Writer", getattr(importlib.import_module(f".{module}", __package__), function))
    return writer(results, views, page)


def apart(texts: Iterable[str]) -> Iterator[str]:
    """The texts with an empty line before all but the first."""
    between = ""
    for text in texts:
        yield between + text
        between = "\n"
