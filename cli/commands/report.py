"""`gradmf report`: all about a run, or about several, on one HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing
from ..options.declaring import paths
from ..options.values import named_file

if TYPE_CHECKING:
    from gradmf.gradlog import Settings

    from ..options.computing import Resources


@click.command(
    help="""Write one HTML file on a RUN, or on several, which are compared with the first: whether it was
    predictable in plain words, findings, figures, tables, bounds, advice, and what made them.

    RUN is a Zarr store, or a file with what analyze --format json wrote; - takes JSON Lines, or paths one a
    line, from stdin. The file fetches nothing, and can be read without scripts and be printed. docs/report.md
    says what it holds. Reports need Jinja2 and matplotlib: gradmf[report].
    """,
    short_help="A report of runs as one HTML file.",
    epilog="""\b
Examples:
  gradmf report run.zarr -o report.html
  gradmf analyze run.zarr --windows 40 --format json -o run.json && gradmf report run.json -o run.html""",
)
@computing.runs
@click.option(
    "-o",
    "--output",
    "out",
    type=named_file,
    required=True,
    metavar="FILE.html",
    shell_complete=paths("file"),
    help="The file to write, whole or not at all.",
)
@computing.settings
@computing.windows
@computing.resources
@showing.no_summary
@showing.no_color
@remote.access
def command(
    runs: tuple[str, ...],
    out: str,
    settings: Settings,
    resources: Resources,
    quiet: bool,
    no_color: bool,
) -> int:
    from gradmf import gradlog
    from gradmf.gradlog.reports.figures import counted, data_size

    from ..terminal.messages import printable
    from ..terminal.output import naming
    from ..terminal.progress import ProgressBar
    from .batch import Batch
    from .runner import results_for_a_file

    if out == "-":
        raise click.UsageError("-o - is no file: give one that ends in .html.")
    gradlog.check_report(out)
    batch, bar = Batch(runs), ProgressBar(quiet=quiet, no_color=no_color)
    results = results_for_a_file(
        batch, settings, resources, bar, gradlog.analyze_for_report, gradlog.ReportedRun.of_finished
    )
    found = list(results)
    if not found:
        return batch.exit_code
    page = gradlog.report(found)
    with naming(out):
        gradlog.save_report(page, out)
    if not quiet:
        size = data_size(len(page.encode()))
        click.echo(f"{printable(out)}: {counted(len(found), 'run')}, {size}")
    return batch.exit_code
