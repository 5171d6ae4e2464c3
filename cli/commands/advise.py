"""`gradmf advise`: what a run's gradients say about its optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing
from ..options.declaring import paths
from ..options.showing import Presentation
from ..options.values import out_file

if TYPE_CHECKING:
    from gradmf.gradlog import Advice, Settings

    from ..options.computing import Resources
    from .sources import Source

QUANTITIES = (
    "dead", "spikes", "growth", "frozen", "rank", "hint", "momentum", "schedule", "slow", "coherence", "edge",
)  # fmt: skip
"""What a shell offers; the names of gradlog.QUANTITIES."""


@click.command(
    help="""Tell what the gradients of each RUN say about its optimizer: which hint, memory, rank, schedule
    and clipping would serve, which tensors are dead or could be frozen; nothing to change is the usual
    answer.

    RUN is a Zarr store, or a file with what analyze --format json wrote, which leaves some answers open; -
    takes paths, one a line, or JSON from stdin. docs/decisions.md has formulas, sources and limits.
    """,
    short_help="What gradients say about the optimizer: decisions with their figures.",
    epilog="""\b
Examples:
  gradmf advise run.zarr --only schedule --schedule next.csv
  gradmf analyze run.zarr --format json --tensor-steps -o run.json && gradmf advise run.json""",
)
@computing.runs
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(QUANTITIES),
    help="Only this quantity (repeatable).",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="K",
    help="Rows whose gradient matrices are taken.  [default: what costs a tenth of the pass, up to 16]",
)
@click.option(
    "--schedule",
    type=out_file,
    metavar="FILE",
    shell_complete=paths("file"),
    help="Write the refined learning-rate schedule beside the logged one to FILE, as csv.",
)
@computing.settings
@computing.band
@computing.resources
@showing.presentation
@showing.top
@remote.access
def command(
    runs: tuple[str, ...],
    only: tuple[str, ...],
    samples: int | None,
    schedule: str | None,
    settings: Settings,
    resources: Resources,
    shown: Presentation,
    top: int | None,
) -> int:
    from gradmf import gradlog

    from ..formats.views import views_of_advice
    from .runner import Runner

    if schedule is not None and len(runs) > 1:
        raise click.UsageError("--schedule goes with a single RUN.")
    if schedule is not None and only and "schedule" not in only:
        raise click.UsageError("--schedule goes with --only schedule, or without --only.")
    runner = Runner(runs, shown, views_of_advice(quiet=shown.quiet, top=top), resources)

    def advise(source: Source) -> Advice:
        with runner.at_work_on(source.name) as granted:
            run = source.finished() or source.name
            advice = gradlog.advise(run, source.settings, only=only, samples=samples, **granted)
        if schedule is not None:
            _write_schedule(advice, schedule, source.name)
        return advice

    return runner.show_sources(settings, advise)


def _write_schedule(advice: Advice, place: str, run: str) -> None:
    from gradmf.gradlog import DataError

    from ..formats.as_csv import write_schedule
    from ..terminal.output import open_output

    if advice.schedule is None:
        (why,) = (decision.text for decision in advice.decisions if decision.quantity == "schedule")
        raise DataError(f"{run}: no schedule for {place}: {why}")
    shown = Presentation(format="csv", out=place, quiet=True, no_color=True)
    with open_output(shown) as output:
        output.write(write_schedule(advice.schedule))
