"""`gradmf merge`: the parts of an analysis, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import remote, showing

if TYPE_CHECKING:
    from gradmf.gradlog import Thresholds

    from ..options.showing import Presentation


@click.command(
    help="""Add up all PARTs of one analysis and show it as gradmf analyze does.

    The numbers are those of a single run up to rounding (1e-12), and the same bits for any order of the
    PARTs. A PART that is missing, given twice, or of another analysis is refused by name; - takes paths from
    stdin, one a line.
    """,
    short_help="Add up the parts that analyze --part has written.",
    epilog="""\b
Examples:
  for i in 1 2 3; do gradmf analyze run.zarr --part $i/3 -o part.$i; done; gradmf merge part.*
  gradmf merge parts/run.* --format json -o run.json""",
)
@click.argument("parts", nargs=-1, required=True, metavar="PART...", type=click.Path())
@showing.fail_if
@showing.presentation
@showing.top
@showing.findings
@showing.steps
@remote.access
def command(
    parts: tuple[str, ...],
    fail_if: tuple[str, ...],
    shown: Presentation,
    top: int | None,
    thresholds: Thresholds | None,
    steps: bool,
) -> int:
    showing.check_steps(steps, shown)

    from gradmf import gradlog

    from ..formats.views import views_of_analyses
    from ..terminal.messages import tell_warning
    from ..terminal.output import open_output
    from .batch import paths_of
    from .runner import Runner

    with open_output(shown) as output:
        analysis = gradlog.merge_parts(list(paths_of(parts)))
        settings = analysis.settings
        views = views_of_analyses(settings, quiet=shown.quiet, steps=steps, top=top, thresholds=thresholds)
        runner = Runner(parts, shown, views)
        runner.hold_to(fail_if, gradlog.Vocabulary.of(settings), gradlog.judge)
        for warning in analysis.warnings:
            tell_warning(warning.message)
        runner.write([analysis], output, several=False)
    return runner.exit_code
