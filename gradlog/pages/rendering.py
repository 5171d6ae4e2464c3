"""A page as HTML: one file that fetches nothing, by a template that escapes all that comes from runs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from ..reports.figures import percent
from ..reports.sparkline import BLOCKS
from ..results.result import Analysis
from .library import load
from .page import headings, page_of
from .provenance import command, versions
from .reported_run import ReportedRun
from .saving import check_report

OneRun = Analysis | ReportedRun


def report(runs: OneRun | Sequence[OneRun], *, labels: Sequence[str] = ()) -> str:
    """The text of an HTML page on one run, or on several, which are compared with the first.

    It says in plain words whether a run was predictable, and has findings, tables, figures, bounds, advice,
    and what it was made with. It fetches nothing, and can be read without scripts and be printed.

    Parameters
    ----------
    runs : of `analyze_for_report`, best, which has advice of the same pass; or analyses, of `analyze` or of
        `read_analyses`: what these do not hold is told in its place
    labels : of the runs; by default the last part of their paths

    Raises
    ------
    UsageError : no runs or more than can be told apart, or Jinja2 or matplotlib is not there
    """
    check_report()
    given = (runs,) if isinstance(runs, OneRun) else tuple(runs)
    reported = [run if isinstance(run, ReportedRun) else ReportedRun.of_finished(run) for run in given]
    page = page_of(reported, labels)
    jinja = load("jinja2")
    markup = load("markupsafe").Markup

    def shown(value: Any) -> Any:
        return value if isinstance(value, markup) or not isinstance(value, str) else _visible(value)

    environment = jinja.Environment(
        autoescape=True, finalize=shown, undefined=jinja.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.tests["sparkline"] = lambda cell: bool(cell) and set(cell) <= {*BLOCKS, " "}
    script = _source("page.js")
    text: str = environment.from_string(_source("page.html")).render(
        page=page,
        headings=headings(page),
        command=command([run.analysis for run in reported]),
        versions=versions(),
        style=markup(_source("page.css")),
        script=markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        svg=lambda element: markup(_visible(element)),
    )
    return text.lstrip()


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _visible(text: str) -> str:
    """The text, with control characters and halves of characters as escapes: they have no place in HTML."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
