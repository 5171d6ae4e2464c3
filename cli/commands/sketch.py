"""`gradmf sketch`: a small log that stands for a large one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing
from ..options.declaring import paths

if TYPE_CHECKING:
    from gradmf.gradlog import Settings, SketchSummary

    from ..options.computing import Resources


@click.command(
    help="""Read RUN once and write its sketch to OUT, a gradient log of format 1.

    Each tensor of more than M parameters becomes M sums of its gradients with random signs; smaller ones,
    steps and series are copied. gradmf analyze shows a sketch with the errors that the projection brings.
    """,
    short_help="Write a small log of random projections of a large one.",
    epilog="""\b
Examples:
  gradmf sketch run.zarr sketch.zarr
  gradmf sketch run.zarr small.zarr --dim 256 --seed 7 && gradmf analyze small.zarr""",
)
@click.argument("run", shell_complete=paths("runs"))
@click.argument("out", type=click.Path())
@computing.settings_of_sketch
@computing.resources
@showing.no_summary
@showing.no_color
@remote.access
def command(run: str, out: str, settings: Settings, resources: Resources, quiet: bool, no_color: bool) -> int:
    from gradmf import gradlog

    from ..terminal.messages import tell_warning
    from ..terminal.output import naming
    from ..terminal.progress import ProgressBar
    from .runner import granted, workers_of

    bar = ProgressBar(quiet=quiet, no_color=no_color)
    with (
        naming(out),
        workers_of(resources, [run], quiet=quiet),
        granted(resources, bar, run) as allowed,
    ):
        summary = gradlog.sketch_log(run, out, settings, **allowed)
    for warning in summary.warnings:
        tell_warning(warning.message)
    if not quiet:
        click.echo(_told(summary))
    return 0


def _told(summary: SketchSummary) -> str:
    from gradmf.gradlog.reports.figures import counted, data_size

    from ..terminal.messages import printable

    return (
        f"{printable(summary.out)}: {counted(summary.rows, 'row')}, {summary.projected} of "
        f"{counted(summary.tensors, 'tensor')} projected to {summary.projection.dim:,} dimensions with seed "
        f"{summary.projection.seed}, {data_size(summary.bytes_read)} of {summary.kind.name} to "
        f"{data_size(summary.bytes_written)}"
    )
