"""`gradmf bounds`: what path lengths and ranks are worth as guarantees, and which predictors gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing

if TYPE_CHECKING:
    from gradmf.gradlog import Bounds, Settings

    from ..options.computing import Resources
    from ..options.showing import Presentation
    from .sources import Source


@click.command(
    help="""Evaluate regret and stationarity guarantees on each RUN, and search for its best predictors.

    RUN is a Zarr store, or a file with what analyze --search --format json wrote; - takes JSON Lines, or
    paths one a line, from stdin. docs/guarantees.md has each formula with what it assumes.
    """,
    short_help="Guarantees with this run's path length in the worst case's place.",
    epilog="""\b
Examples:
  gradmf bounds run.zarr
  gradmf analyze run.zarr --search --format json -o run.json && gradmf bounds run.json --radius 0.5""",
)
@computing.runs
@computing.settings
@click.option(
    "--radius",
    type=float,
    default=1.0,
    show_default=True,
    metavar="R",
    help="Of regret bounds: the Bregman divergence of comparators from the start is at most R^2.",
)
@click.option("--smoothness", type=float, metavar="L", help="Smoothness of the loss: checks lr <= 1/L.")
@click.option("--lr", type=float, metavar="ETA", help="Step size, in the place of the log's own.")
@click.option(
    "--floor", type=float, default=0.0, show_default=True, metavar="F", help="What no loss is below."
)
@click.option("--curves", is_flag=True, help="With --format csv or jsonl: the curves over rows and ranks.")
@computing.band
@computing.resources
@showing.presentation
@remote.access
def command(
    runs: tuple[str, ...],
    settings: Settings,
    radius: float,
    smoothness: float | None,
    lr: float | None,
    floor: float,
    curves: bool,
    resources: Resources,
    shown: Presentation,
) -> int:
    from gradmf import gradlog

    from ..formats.views import views_of_bounds
    from .runner import Runner

    if curves and shown.takes == "reports":
        raise click.UsageError(f"--curves goes with --format csv or jsonl, not with {shown.format}.")
    runner = Runner(runs, shown, views_of_bounds(quiet=shown.quiet, curves=curves), resources)
    gradlog.check_bounds(radius, smoothness, lr, floor)

    def bounds_of(source: Source) -> Bounds:
        analysis = runner.analysis_of(source, gradlog.analyze_for_bounds)
        return gradlog.bounds(analysis, radius=radius, smoothness=smoothness, lr=lr, floor=floor)

    return runner.show_sources(settings, bounds_of)
