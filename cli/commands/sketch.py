"""`gradmf sketch`: a small log that stands for a large one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import shared as options
from ..options import sketch_options
from ..options.shared import Resources

if TYPE_CHECKING:
    from gradmf.gradlog import SketchSummary


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
@click.argument("run", shell_complete=options.paths("runs"))
@click.argument("out", type=click.Path())
@click.option(
    "--dim",
    type=int,
    metavar="M",
    help="Dimension of the projection of each tensor, a power of two.  "
    "[default: 1024, or less where memory is short]",
)
@sketch_options.seed
@options.selection
@options.truncate
@options.gradients
@options.repeated
@options.strict
@options.resources
@click.option("-q", "--quiet", is_flag=True, help="No summary and no progress bar.")
@options.no_color
def command(
    run: str,
    out: str,
    dim: int | None,
    seed: int,
    tensor: tuple[str, ...],
    exclude: tuple[str, ...],
    rows: tuple[int | None, int | None] | None,
    truncate: bool,
    gradients: tuple[str, ...],
    repeated: str,
    strict: bool,
    resources: Resources,
    quiet: bool,
    no_color: bool,
) -> int:
    from gradmf import gradlog

    from ..terminal.messages import tell_warning
    from ..terminal.output import naming
    from ..terminal.progress import ProgressBar

    settings = gradlog.Settings(
        sketch_dim=dim, seed=seed, tensors=tensor, exclude=exclude, rows=rows or (None, None),
        repeated=repeated, truncate=truncate, gradients=gradients, strict=strict,
    )  # fmt: skip
    with naming(out), ProgressBar(quiet=quiet, no_color=no_color).of(run) as progress:
        summary = gradlog.sketch_log(
            run, out, settings, threads=resources.threads, memory=resources.memory, progress=progress
        )
    for warning in summary.warnings:
        tell_warning(warning.message)
    if not quiet:
        click.echo(_told(summary))
    return 0


def _told(summary: SketchSummary) -> str:
    from ..reports.figures import counted, data_size
    from ..terminal.messages import printable

    return (
        f"{printable(summary.out)}: {counted(summary.rows, 'row')}, {summary.projected} of "
        f"{counted(summary.tensors, 'tensor')} projected to {summary.projection.dim:,} dimensions with seed "
        f"{summary.projection.seed}, {data_size(summary.bytes_read)} of gradients to "
        f"{data_size(summary.bytes_written)}"
    )
