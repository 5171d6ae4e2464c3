"""`gradmf bounds`: what path lengths and ranks are worth as guarantees, and which predictors gave them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from . import options
from .options import Presentation, Resources

if TYPE_CHECKING:
    from gradmf.gradlog import Bounds, Settings

    from .output import Output
    from .sources import Source


@click.command(
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
    resources: Resources,
    shown: Presentation,
) -> int:
    """Evaluate regret and stationarity guarantees on each RUN, and search for its best predictors.

    RUN is a Zarr store, or a file with what analyze --search --format json wrote; - takes JSON Lines, or
    paths one a line, from stdin. docs/guarantees.md has each formula with what it assumes.
    """
    from gradmf import gradlog

    from .as_csv import BOUNDS_COLUMNS, CURVE_COLUMNS
    from .batch import Batch
    from .columns import chosen_columns
    from .output import open_output
    from .progress import ProgressBar
    from .sources import Sources, check_finished

    if curves and shown.format not in ("csv", "jsonl", "json"):
        raise click.UsageError(f"--curves goes with --format csv or jsonl, not with {shown.format}.")
    columns = chosen_columns(shown.columns, CURVE_COLUMNS if curves else BOUNDS_COLUMNS, shown.format)
    gradlog.check_bounds(radius, smoothness, lr, floor)
    for spec in settings.predictors:
        gradlog.parse_predictor(spec)
    sources = Sources(runs, settings)
    sources.read()
    batch = Batch([source.name for source in sources.found])
    bar = ProgressBar(quiet=shown.quiet, no_color=shown.no_color)

    def bounds_of(source: Source) -> Bounds | None:
        def evaluate(run: str) -> Bounds:
            analysis = source.analysis
            if analysis is not None:
                check_finished(source, analysis)
            else:
                with bar.of(run) as progress:
                    analysis = gradlog.analyze_for_bounds(
                        run, source.settings, threads=resources.threads, memory=resources.memory,
                        progress=progress,
                    )  # fmt: skip
            return gradlog.bounds(analysis, radius=radius, smoothness=smoothness, lr=lr, floor=floor)

        return batch.attempt(source.name, evaluate)

    def all_bounds() -> Iterator[Bounds]:
        for source in sources.found:
            found = bounds_of(source)
            if found is not None:
                batch.done += 1
                yield found
        for word, error in sources.faults:
            batch.fail(word, error)

    with open_output(shown) as output:
        several = len(sources.found) > 1
        output.write(_render(all_bounds(), shown, output, columns, several=several, curves=curves))
        output.keep = not batch.worthless
    return batch.exit_code


def _render(
    found: Iterator[Bounds],
    shown: Presentation,
    output: Output,
    columns: tuple[str, ...],
    *,
    several: bool,
    curves: bool,
) -> Iterator[str]:
    from gradmf.gradlog import bounds_document

    from . import as_csv, as_json
    from .bounds_report import bounds_report
    from .reports import draw_reports

    match shown.format:
        case "json":
            return as_json.write_json(map(bounds_document, found), output.encoding, several=several)
        case "jsonl":
            documents = (bounds_document(item, curves=curves) for item in found)
            return as_json.write_json_lines(documents, output.encoding)
        case "csv":
            return as_csv.write_curves(found, columns) if curves else as_csv.write_bounds(found, columns)
        case _:
            reports = (bounds_report(item, quiet=shown.quiet) for item in found)
            return draw_reports(reports, shown.format, output.terminal)
