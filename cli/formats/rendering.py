"""Results in the format that was asked for: what each kind looks like is said once, by its command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..options.shared import Presentation
from ..terminal.output import Output
from . import as_json

if TYPE_CHECKING:
    from ..reports.report import Report

_R = TypeVar("_R")


@dataclass(frozen=True)
class Views(Generic[_R]):
    """How results of one kind look.

    document : JSON of one; report : what a person sees of one, and of which: 1 for the first;
    rows : CSV of all, with columns in this order, None where there is none;
    line : as `document`, where JSON Lines differ from it
    """

    document: Callable[[_R], dict[str, Any]]
    report: Callable[[_R, int], Report]
    rows: Callable[[Iterable[_R], Sequence[str]], Iterator[str]] | None
    line: Callable[[_R], dict[str, Any]] | None = None


def render(
    results: Iterable[_R],
    views: Views[_R],
    shown: Presentation,
    output: Output,
    *,
    several: bool,
    columns: Sequence[str] = (),
) -> Iterator[str]:
    """Pieces of text, each as soon as its result is there. several : json is a list, even of one result"""
    match shown.format:
        case "json":
            return as_json.write_json(map(views.document, results), output.encoding, several=several)
        case "jsonl":
            return as_json.write_json_lines(map(views.line or views.document, results), output.encoding)
        case "csv" if views.rows is not None:
            return views.rows(results, columns)
        case _:
            from .drawing import draw_reports

            reports = (views.report(result, number) for number, result in enumerate(results, 1))
            return draw_reports(reports, shown.format, output.terminal)
