"""Options that say how results are shown, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gradmf.gradlog.quick_dataclass import dataclass

from ..formats.rendering import FORMATS, Takes
from .declaring import bundle, completed_by, paths
from .values import name_list, named_number, out_file

if TYPE_CHECKING:
    from gradmf.gradlog import Thresholds


@dataclass(frozen=True)
class Presentation:
    """How results are shown. out : file or URL, None for stdout; columns : of csv, all where empty."""

    format: str
    out: str | None
    quiet: bool
    no_color: bool
    columns: tuple[str, ...] = ()

    @property
    def takes(self) -> Takes:
        """What of a result the format takes."""
        return FORMATS[self.format].takes


no_summary = click.option("-q", "--quiet", is_flag=True, help="No summary and no progress bar.")

no_color = click.option("--no-color", is_flag=True, help="No colour on a terminal.")

presentation = bundle(
    "shown",
    Presentation,
    click.option(
        "--format",
        type=click.Choice(tuple(FORMATS)),
        default=next(iter(FORMATS)),
        show_default=True,
        help="Output format.",
    ),
    click.option(
        "--columns",
        type=name_list,
        default="",
        metavar="NAMES",
        shell_complete=completed_by("columns"),
        help="With --format csv: only these columns, in this order, separated by commas; * stands for any "
        "text, and the word help lists them.",
    ),
    click.option(
        "-o",
        "--output",
        "out",
        type=out_file,
        metavar="FILE",
        shell_complete=paths("file"),
        help="Write to FILE, which may be a URL, whole or not at all, instead of stdout.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="No explanations and no progress bar."),
    no_color,
)

steps = click.option(
    "--steps", is_flag=True, help="With --format jsonl: the per-step series too, which json always holds."
)

top = click.option(
    "--top",
    type=click.IntRange(min=0),
    metavar="N",
    help="On a terminal, show the first N rows of long tables, 0 for all of them; pipes, files and machine "
    "formats always hold all.  [default: 20]",
)


def _thresholds(no_findings: bool, finding_threshold: tuple[tuple[str, float], ...]) -> Thresholds | None:
    """None for no findings. Raises UsageError for a threshold that is not known, or outside of its range."""
    from gradmf.gradlog import Thresholds

    if no_findings and finding_threshold:
        raise click.UsageError("--finding-threshold goes with findings, not with --no-findings.")
    return None if no_findings else Thresholds.of(dict(finding_threshold))


findings = bundle(
    "thresholds",
    _thresholds,
    click.option("--no-findings", is_flag=True, help="Leave out what stands out in a run."),
    click.option(
        "--finding-threshold",
        type=named_number,
        multiple=True,
        metavar="NAME=VALUE",
        help="From where on something stands out (repeatable), such as step_share=0.3; docs/findings.md "
        "lists them.",
    ),
)
"""Adds --no-findings and --finding-threshold."""

fail_if = click.option(
    "--fail-if",
    multiple=True,
    metavar="RULE",
    shell_complete=completed_by("gates"),
    help="End with exit code 3 where RULE holds, such as 'rank[0.05] > 40' (repeatable).",
)


def check_steps(steps: bool, shown: Presentation) -> None:
    """Raise for `--steps` where the format has no place for them."""
    if steps and shown.takes != "documents":
        raise click.UsageError(f"--steps goes with --format jsonl, not with {shown.format}.")
