"""`gradmf bounds`: what path lengths and ranks are worth as guarantees, and which predictors gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import shared as options
from ..options.shared import Presentation, Resources

if TYPE_CHECKING:
    from gradmf.gradlog import Bounds, Settings

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
@options.runs
@options.settings
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
@options.band
@options.resources
@options.presentation
def command(
    runs: tuple[str, ...],
    settings: Settings,
    radius: float,
    smoothness: float | None,
    lr: float | None,
    floor: float,
    curves: bool,
    band: int | None,
    resources: Resources,
    shown: Presentation,
) -> int:
    from gradmf import gradlog

    from ..formats.as_csv import BOUNDS_COLUMNS, CURVE_COLUMNS, write_bounds, write_curves
    from ..formats.rendering import Views, render
    from ..options.columns import chosen_columns
    from ..reports.bounds_report import bounds_report
    from ..terminal.output import open_output
    from ..terminal.progress import ProgressBar
    from .batch import Batch
    from .sources import find_sources

    if curves and shown.format not in ("csv", "jsonl", "json"):
        raise click.UsageError(f"--curves goes with --format csv or jsonl, not with {shown.format}.")
    columns = chosen_columns(shown.columns, CURVE_COLUMNS if curves else BOUNDS_COLUMNS, shown.format)
    settings = options.with_band(settings, band)
    gradlog.check_bounds(radius, smoothness, lr, floor)
    batch = Batch(runs)
    bar = ProgressBar(quiet=shown.quiet, no_color=shown.no_color)

    def bounds_of(source: Source) -> Bounds:
        analysis = source.finished()
        if analysis is None:
            with bar.of(source.name) as progress:
                analysis = gradlog.analyze_for_bounds(
                    source.name, source.settings, threads=resources.threads, memory=resources.memory,
                    progress=progress,
                )  # fmt: skip
        return gradlog.bounds(analysis, radius=radius, smoothness=smoothness, lr=lr, floor=floor)

    views = Views(
        document=gradlog.bounds_document,
        report=lambda bounds, _: bounds_report(bounds, quiet=shown.quiet),
        rows=write_curves if curves else write_bounds,
        line=lambda bounds: gradlog.bounds_document(bounds, curves=curves),
    )
    with open_output(shown) as output:
        sources, batch.several = find_sources(runs, settings)
        found = batch.results_of(sources, bounds_of)
        output.write(render(found, views, shown, output, several=batch.several, columns=columns))
        output.keep = not batch.worthless
    return batch.exit_code
