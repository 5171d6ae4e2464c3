"""`gradmf merge`: the parts of an analysis, added up."""

from __future__ import annotations

import click

from ..options import shared as options
from ..options.shared import Presentation


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
@options.fail_if
@options.presentation
@options.steps
def command(parts: tuple[str, ...], fail_if: tuple[str, ...], shown: Presentation, steps: bool) -> int:
    options.check_steps(steps, shown)

    from gradmf import gradlog

    from ..formats.as_csv import analysis_columns
    from ..formats.rendering import render
    from ..formats.views_of_analyses import views_of_analyses
    from ..options.columns import chosen_columns
    from ..options.gates import Gates
    from ..terminal.messages import tell_warning
    from ..terminal.output import open_output
    from .batch import paths_of

    with open_output(shown) as output:
        analysis = gradlog.merge_parts(list(paths_of(parts)))
        known = gradlog.Vocabulary.of(analysis.settings)
        columns = chosen_columns(
            shown.columns, analysis_columns(known.predictors, known.epsilons), shown.format
        )
        gates = Gates(fail_if, known)
        for warning in analysis.warnings:
            tell_warning(warning.message)
        analyses = gates.watch([analysis], gradlog.judge)
        views = views_of_analyses(quiet=shown.quiet, steps=steps)
        pieces = render(analyses, views, shown, output, several=False, columns=columns)
        output.write(pieces, to_the_end=bool(gates.rules))
    return gates.exit_code
