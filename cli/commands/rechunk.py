"""`gradmf rechunk`: a copy of a log, laid out to be analyzed fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing
from ..options.declaring import offered, paths
from ..options.values import memory_size

if TYPE_CHECKING:
    from gradmf.gradlog import RechunkPlan, Settings

    from ..options.computing import Resources


@click.command(
    help="""Copy RUN to OUT, a gradient log of format 1 whose chunks are read fast.

    Rows, steps, series, attributes and every entry are kept as they are. It pays for a log with one row in a
    chunk, with thousands of small chunks or with slow codecs, most of all where memory is short.
    """,
    short_help="Copy a log into a layout that is analyzed fast.",
    epilog="""\b
Examples:
  gradmf rechunk run.zarr fast.zarr --dry-run
  gradmf rechunk run.zarr fast.zarr && gradmf analyze fast.zarr""",
)
@click.argument("run", shell_complete=paths("runs"))
@click.argument("out", type=click.Path())
@click.option(
    "--chunk-rows",
    type=click.IntRange(min=1),
    metavar="N",
    help="Rows of a chunk.  [default: all, up to 1,024]",
)
@click.option(
    "--chunk-bytes",
    type=memory_size,
    default="4M",
    show_default=True,
    metavar="SIZE",
    shell_complete=offered("1M", "4M", "16M"),
    help="Size of a chunk aimed at.",
)
@click.option(
    "--compress",
    is_flag=True,
    help="Compress chunks with zstd: smaller where many entries are zero, slower to read.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@computing.settings_of_copy
@computing.resources_of_copy
@showing.no_summary
@showing.no_color
@remote.access
def command(
    run: str,
    out: str,
    chunk_rows: int | None,
    chunk_bytes: int,
    compress: bool,
    dry_run: bool,
    settings: Settings,
    resources: Resources,
    quiet: bool,
    no_color: bool,
) -> int:
    from gradmf import gradlog
    from gradmf.gradlog.reports.rechunk_report import rechunk_words

    from ..terminal.messages import printable, tell_warning
    from ..terminal.output import naming
    from ..terminal.progress import ProgressBar

    if dry_run:
        plan = gradlog.plan_rechunk(
            run, settings, threads=resources.threads, memory=resources.memory, chunk_rows=chunk_rows,
            chunk_bytes=chunk_bytes, compress=compress,
        )  # fmt: skip
        for warning in plan.warnings:
            tell_warning(warning.message)
        _show(plan, no_color=no_color)
        return 0
    bar = ProgressBar(quiet=quiet, no_color=no_color)
    with naming(out), bar.of(run) as progress:
        summary = gradlog.rechunk_log(
            run, out, settings, threads=resources.threads, memory=resources.memory, progress=progress,
            chunk_rows=chunk_rows, chunk_bytes=chunk_bytes, compress=compress,
        )  # fmt: skip
    for warning in summary.warnings:
        tell_warning(warning.message)
    if not quiet:
        click.echo(printable(rechunk_words(summary)))
    return 0


def _show(plan: RechunkPlan, *, no_color: bool) -> None:
    from gradmf.gradlog.reports.rechunk_report import rechunk_report

    from ..formats.as_table import draw_table
    from ..options.showing import Presentation
    from ..terminal.output import open_output

    with open_output(Presentation("table", None, quiet=False, no_color=no_color)) as output:
        output.write([draw_table(rechunk_report(plan), output.terminal)])
