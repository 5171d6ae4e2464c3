"""`gradmf compare`: by how much runs differ from a baseline, and whether that is more than noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing
from ..options.declaring import paths

if TYPE_CHECKING:
    from gradmf.gradlog import Settings

    from ..options.computing import Resources, Rows
    from ..options.showing import Presentation


@click.command(
    help="""Compare path lengths, kappa and predictable rank of each RUN and its tensors with the BASELINE.

    BASELINE and RUN are Zarr stores, or files with what analyze --format json or jsonl wrote; - takes JSON
    Lines, or paths one a line, from stdin. Changes that lie within noise are marked ~.
    """,
    short_help="How runs differ from a baseline, and whether that is noise.",
    epilog="""\b
Examples:
  gradmf compare reference.zarr new.zarr
  gradmf analyze run*.zarr --format jsonl --steps --tensor-steps | gradmf compare -""",
)
@click.argument("runs", nargs=-1, required=True, metavar="BASELINE RUN...", shell_complete=paths("results"))
@computing.rows_of_runs
@computing.settings_of_runs
@click.option(
    "--align",
    type=click.Choice(("step", "fraction")),
    help="Match runs by training step, over the steps that all span, or by fraction of training; without "
    "it each run varies on its own.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 0.999),
    default=0.95,
    show_default=True,
    metavar="SHARE",
    help="Of the intervals.",
)
@computing.relation
@computing.resources
@showing.fail_if
@showing.presentation
@showing.top
@remote.access
def command(
    runs: tuple[str, ...],
    settings: Settings,
    rows: tuple[Rows, ...],
    align: str | None,
    confidence: float,
    resources: Resources,
    fail_if: tuple[str, ...],
    shown: Presentation,
    top: int | None,
) -> int:
    from gradmf import gradlog

    from ..formats.views import views_of_comparisons
    from .against_baseline import AgainstBaseline
    from .runner import Runner
    from .sources import baseline_and_runs, choose_rows, share_steps

    runner = Runner(runs, shown, views_of_comparisons(quiet=shown.quiet, top=top), resources)
    if settings.subspace is not None and resources.dask is not None:
        raise click.UsageError("--subspace reads two stores side by side, in this process: leave --dask out.")
    sources = baseline_and_runs(runs, settings)
    if len(sources) < 2:
        raise click.UsageError("compare takes a baseline and at least one run.")
    finished = next((source.analysis.run for source in sources if source.analysis is not None), None)
    if settings.subspace is not None and finished is not None:
        raise click.UsageError(
            f"--subspace reads {finished.kind.name}: give the store of {finished.path}, not its results."
        )
    sources = choose_rows(sources, rows)
    if align == "step":
        sources = share_steps(sources)
    settled = [source.analysis.settings if source.analysis else source.settings for source in sources]
    runner.hold_to(fail_if, gradlog.comparison_vocabulary(settled), gradlog.judge_comparison)
    work = AgainstBaseline(runner, sources, settings, resources, align, confidence)
    return runner.show(work.comparisons(), several=len(sources) > 2)
