"""`gradmf export`: results of runs for TensorBoard, pandas, DuckDB and others."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing
from ..options.declaring import paths

if TYPE_CHECKING:
    from gradmf.gradlog import Settings

    from ..options.computing import Resources

TARGETS = ("tensorboard", "parquet", "csv")
"""What a shell offers; the names of gradlog's."""


@click.command(
    help="""Write figures by run, by window of training and by step, of the whole model and of tensors, for
    other tools: a table with a line for each value, as CSV or Parquet, or scalars of TensorBoard.

    RUN is a Zarr store, or a file with what analyze --format json wrote; - takes JSON Lines, or paths one a
    line, from stdin. What a result doesn't hold is left out, and told on stderr. docs/export.md lists columns
    and tags. Parquet needs pyarrow: gradmf[parquet]; event files need tensorboard: gradmf[tensorboard].
    """,
    short_help="Series by step and window for TensorBoard, pandas, DuckDB.",
    epilog="""\b
Examples:
  gradmf export run.zarr --windows 8 --to csv -o run.csv
  gradmf export reference.zarr new.zarr --windows 8 --to parquet -o runs.parquet""",
)
@computing.runs
@click.option("--to", type=click.Choice(TARGETS), required=True, help="What to write.")
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(),
    required=True,
    metavar="OUT",
    shell_complete=paths("file"),
    help="What to write, whole or not at all: a file, of CSV compressed by gzip where it ends in .gz; for "
    "tensorboard a new folder.",
)
@computing.settings
@computing.windows
@computing.groups
@computing.resources
@showing.no_summary
@showing.no_color
@remote.access
def command(
    runs: tuple[str, ...],
    to: str,
    out: str,
    settings: Settings,
    resources: Resources,
    quiet: bool,
    no_color: bool,
) -> int:
    from gradmf import gradlog
    from gradmf.gradlog.reports.figures import counted

    from ..terminal.messages import printable, tell_warning
    from ..terminal.output import naming
    from ..terminal.progress import ProgressBar
    from .batch import Batch
    from .runner import as_it_is, results_for_a_file

    if out in ("", "-"):
        raise click.UsageError(f"-o {out!r} is no place for an export: give the name of a file or folder.")
    gradlog.check_export(out, to)
    batch, bar = Batch(runs), ProgressBar(quiet=quiet, no_color=no_color)
    analyze = functools.partial(gradlog.analyze, tensor_steps=True)
    analyses = results_for_a_file(batch, settings, resources, bar, analyze, as_it_is)
    first = next(analyses, None)
    if first is None:
        return batch.exit_code
    with naming(out):
        # One after another: the results of many runs need not fit in memory.
        found = itertools.chain([first], analyses) if batch.several else first
        summary = gradlog.export(found, out, to=to)
    for run, texts in itertools.groupby(summary.left_out, lambda item: item[0]):
        named = f"{run}: " if batch.several and run else ""
        tell_warning(f"{named}left out: {'; '.join(text for _, text in texts)}")
    if not quiet:
        click.echo(
            f"{printable(out)}: {counted(summary.values, 'value')} of {counted(summary.runs, 'run')}, {to}"
        )
    return batch.exit_code
