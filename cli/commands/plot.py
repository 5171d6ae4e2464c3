"""`gradmf plot`: curves of runs as a figure."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing
from ..options.declaring import paths
from ..options.values import named_file

if TYPE_CHECKING:
    from gradmf.gradlog import Settings

    from ..options.computing import Resources

PANELS = ("kappa", "loss", "norm", "heatmap", "spectrum", "rank", "growth", "window-rank", "overlap")
"""What a shell offers; the names of gradlog.PANELS."""
STYLES = ("paper-1col", "paper-2col", "screen")


@click.command(
    help="""Draw kappa, loss and norm over training, the spectrum of the increments, ranks and kappa of
    tensors, each beside what noise would give; several RUNs over each other.

    RUN is a Zarr store, or a file with what analyze --format json wrote; - takes JSON Lines, or paths one a
    line, from stdin. A store is analyzed in up to 40 windows of training. docs/plot.md says how to read each
    panel; one that cannot be drawn says why in its place. Figures need matplotlib: gradmf[plot].
    """,
    short_help="Figures of a run, or of several over each other.",
    epilog="""\b
Examples:
  gradmf plot reference.zarr new.zarr --panel kappa --panel spectrum --style paper-1col -o fig.pdf
  gradmf analyze run.zarr --windows 40 --format json -o run.json && gradmf plot run.json -o run.svg""",
)
@computing.runs
@click.option(
    "-o",
    "--output",
    "out",
    type=named_file,
    required=True,
    metavar="FIG.(png|svg|pdf)",
    shell_complete=paths("file"),
    help="The file to write, whole or not at all; its ending says the format.",
)
@click.option(
    "--panel",
    "panels",
    multiple=True,
    type=click.Choice(PANELS),
    help="Only this panel (repeatable).  [default: those that there is something for]",
)
@click.option(
    "--style",
    type=click.Choice(STYLES),
    default="screen",
    show_default=True,
    help="Width and type: of a column, of a page, of a screen.",
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
    panels: tuple[str, ...],
    style: str,
    settings: Settings,
    resources: Resources,
    quiet: bool,
    no_color: bool,
) -> int:
    from gradmf import gradlog

    from ..terminal.messages import printable
    from ..terminal.output import naming
    from ..terminal.progress import ProgressBar
    from .batch import Batch
    from .runner import as_it_is, results_for_a_file

    if out == "-":
        raise click.UsageError("-o - has no ending to say the format: give a file .png, .svg or .pdf.")
    gradlog.check_plot(out, panels, style)
    batch, bar = Batch(runs), ProgressBar(quiet=quiet, no_color=no_color)
    analyze = functools.partial(gradlog.analyze_for_plot, panels=panels)
    analyses = list(results_for_a_file(batch, settings, resources, bar, analyze, as_it_is))
    if not analyses:
        return batch.exit_code
    figure = gradlog.plot(analyses, panels=panels, style=style)
    with naming(out):
        gradlog.save_plot(figure, out)
    if not quiet:
        width, height = figure.get_size_inches()
        click.echo(f"{printable(out)}: {width:.1f} by {height:.1f} inches")
    return batch.exit_code
