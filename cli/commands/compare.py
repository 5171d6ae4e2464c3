"""`gradmf compare`: by how much runs differ from a baseline, and whether that is more than noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from ..options import shared as options
from ..options.shared import Presentation, Resources

if TYPE_CHECKING:
    from gradmf.gradlog import Analysis, Comparison, Settings

    from .sources import Rows, Source


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
@click.argument(
    "runs", nargs=-1, required=True, metavar="BASELINE RUN...", shell_complete=options.paths("results")
)
@options.rows_of_runs
@options.settings_of_runs
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
@options.relation
@options.window
@options.resources
@options.fail_if
@options.presentation
def command(
    runs: tuple[str, ...],
    settings: Settings,
    rows: tuple[Rows, ...],
    align: str | None,
    confidence: float,
    subspace: int | None,
    window: int | None,
    resources: Resources,
    fail_if: tuple[str, ...],
    shown: Presentation,
) -> int:
    from gradmf import gradlog

    from ..formats.as_csv import COMPARISON_COLUMNS, write_comparisons
    from ..formats.rendering import Views, render
    from ..options.columns import chosen_columns
    from ..options.gates import Gates
    from ..reports.comparison_report import comparison_report
    from ..terminal.output import open_output
    from ..terminal.progress import ProgressBar
    from .batch import Batch
    from .sources import choose_rows, find_sources, share_steps

    columns = chosen_columns(shown.columns, COMPARISON_COLUMNS, shown.format)
    related = options.with_subspace(settings, subspace, window)
    found, _ = find_sources(runs, settings)
    sources = list(found)
    if sources and sources[0].fault is not None:
        raise sources[0].fault  # without a baseline there is nothing to compare
    if len(sources) < 2:
        raise click.UsageError("compare takes a baseline and at least one run.")
    finished = next((source.name for source in sources if source.analysis is not None), None)
    if subspace is not None and finished is not None:
        raise click.UsageError(f"--subspace reads gradients: give the store of {finished}, not its results.")
    sources = choose_rows(sources, rows)
    if align == "step":
        sources = share_steps(sources)
    settled = [source.analysis.settings if source.analysis else source.settings for source in sources]
    gates = Gates(fail_if, gradlog.comparison_vocabulary(settled))
    batch = Batch([source.name for source in sources])
    bar = ProgressBar(quiet=shown.quiet, no_color=shown.no_color)

    def analysis_of(source: Source) -> Analysis:
        finished = source.finished()
        if finished is not None:
            return finished
        with bar.of(source.name) as progress:
            return gradlog.analyze(
                source.name, source.settings, threads=resources.threads, memory=resources.memory,
                progress=progress, tensor_steps=True,
            )  # fmt: skip

    def against(baseline: Analysis, run: Analysis, name: str) -> Comparison:
        compared = gradlog.compare(baseline, run, align=align, confidence=confidence)
        if subspace is None:
            return compared
        first, steps = sources[0].name, (baseline.steps.step, run.steps.step)
        with bar.of(f"{first}, {name}") as progress:
            relation = gradlog.relate(
                first, name, steps, related,
                threads=resources.threads, memory=resources.memory, progress=progress,
            )  # fmt: skip
        return dataclasses.replace(compared, relation=relation)

    def related_to_baseline(source: Source) -> bool:
        """Whether it can be, where it is to be: told before any gradient is read."""
        if subspace is None or source.fault is not None:
            return True
        rows = [side.settings.rows for side in (sources[0], source)]
        try:
            gradlog.check_relation(
                sources[0].name, source.name, rows, related,
                threads=resources.threads, memory=resources.memory,
            )  # fmt: skip
        except gradlog.GradmfError as error:
            batch.fail(source.name, error)
            return False
        return True

    def comparisons() -> Iterator[Comparison]:
        others = [source for source in sources[1:] if related_to_baseline(source)]
        if not others:
            return
        baseline = batch.attempt(sources[0].name, partial(analysis_of, sources[0]))
        if baseline is None:
            return
        for source in others:
            run = batch.attempt(source.name, partial(analysis_of, source))
            if run is None:
                continue
            compared = batch.attempt(source.name, partial(against, baseline, run, source.name))
            if compared is not None:
                batch.done += 1
                yield compared

    views = Views(
        document=gradlog.comparison_document,
        report=lambda compared, number: comparison_report(compared, number, quiet=shown.quiet),
        rows=write_comparisons,
    )
    with open_output(shown) as output:
        watched = gates.watch(comparisons(), gradlog.judge_comparison)
        pieces = render(watched, views, shown, output, several=len(sources) > 2, columns=columns)
        output.write(pieces, to_the_end=bool(gates.rules))
        output.keep = not batch.worthless
    return batch.exit_code or gates.exit_code
