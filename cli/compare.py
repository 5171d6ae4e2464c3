"""`gradmf compare`: by how much runs differ from a baseline, and whether that is more than noise."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from . import options
from .options import Presentation, Resources

if TYPE_CHECKING:
    from gradmf.gradlog import Analysis, Comparison, Settings

    from .output import Output
    from .sources import Rows, Source


@click.command(
    short_help="How runs differ from a baseline, and whether that is noise.",
    epilog="""\b
Examples:
  gradmf compare reference.zarr new.zarr
  gradmf analyze run*.zarr --format jsonl --steps --tensor-steps | gradmf compare -""",
)
@click.argument(
    "runs", nargs=-1, required=True, metavar="BASELINE RUN...", shell_complete=options.paths("results")
)
@options.run_settings
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
    settings: tuple[Settings, tuple[Rows, ...]],
    align: str | None,
    confidence: float,
    subspace: int | None,
    window: int | None,
    resources: Resources,
    fail_if: tuple[str, ...],
    shown: Presentation,
) -> int:
    """Compare path lengths, kappa and predictable rank of each RUN and its tensors with the BASELINE.

    BASELINE and RUN are Zarr stores, or files with what analyze --format json or jsonl wrote; - takes JSON
    Lines, or paths one a line, from stdin. Changes that lie within noise are marked ~.
    """
    from gradmf import gradlog

    from .as_csv import COMPARISON_COLUMNS
    from .batch import Batch
    from .columns import chosen_columns
    from .gates import Gates
    from .output import open_output
    from .progress import ProgressBar
    from .sources import Sources, check_finished

    columns = chosen_columns(shown.columns, COMPARISON_COLUMNS, shown.format)
    wanted, rows = settings
    related = options.with_subspace(wanted, subspace, window)
    for spec in wanted.predictors:
        gradlog.parse_predictor(spec)
    sources = Sources(runs, wanted)
    sources.read()
    if len(sources.found) + len(sources.faults) < 2:
        raise click.UsageError("compare takes a baseline and at least one run.")
    finished = next((source.name for source in sources.found if source.analysis is not None), None)
    if subspace is not None and finished is not None:
        raise click.UsageError(f"--subspace reads gradients: give the store of {finished}, not its results.")
    sources.choose_rows(rows)
    if align == "step":
        sources.share_steps()
    settled = [source.analysis.settings if source.analysis else source.settings for source in sources.found]
    gates = Gates(fail_if, gradlog.comparison_vocabulary(settled))
    batch = Batch([source.name for source in sources.found])
    bar = ProgressBar(quiet=shown.quiet, no_color=shown.no_color)

    def analysis_of(source: Source) -> Analysis | None:
        if source.analysis is not None:
            finished = source.analysis
            check_finished(source, finished)
            return finished

        def analyze(run: str) -> Analysis:
            with bar.of(run) as progress:
                return gradlog.analyze(
                    run,
                    source.settings,
                    threads=resources.threads,
                    memory=resources.memory,
                    progress=progress,
                    tensor_steps=True,
                )

        return batch.attempt(source.name, analyze)

    def against(baseline: Analysis, run: Analysis, name: str) -> Comparison:
        compared = gradlog.compare(baseline, run, align=align, confidence=confidence)
        if subspace is None:
            return compared
        first, steps = sources.found[0].name, (baseline.steps.step, run.steps.step)
        with bar.of(f"{first}, {name}") as progress:
            relation = gradlog.relate(
                first, name, steps, related,
                threads=resources.threads, memory=resources.memory, progress=progress,
            )  # fmt: skip
        return dataclasses.replace(compared, relation=relation)

    def comparisons() -> Iterator[Comparison]:
        baseline = analysis_of(sources.found[0])
        if baseline is None:
            return
        for source in sources.found[1:]:
            run = analysis_of(source)
            if run is not None:
                work = functools.partial(against, baseline, run)
                compared = batch.attempt(source.name, work)
                if compared is not None:
                    batch.done += 1
                    yield compared
        for word, error in sources.faults:
            batch.fail(word, error)

    with open_output(shown) as output:
        several = len(sources.found) > 2
        watched = gates.watch(comparisons(), gradlog.judge_comparison)
        pieces = _render(watched, shown, output, columns, several=several)
        output.write(pieces, to_the_end=bool(gates.rules))
        output.keep = not batch.worthless
    return batch.exit_code or gates.exit_code


def _render(
    comparisons: Iterator[Comparison],
    shown: Presentation,
    output: Output,
    columns: tuple[str, ...],
    *,
    several: bool,
) -> Iterator[str]:
    from gradmf.gradlog import comparison_document

    from . import as_csv, as_json
    from .comparison_report import comparison_report
    from .reports import draw_reports

    match shown.format:
        case "json":
            return as_json.write_json(map(comparison_document, comparisons), output.encoding, several=several)
        case "jsonl":
            return as_json.write_json_lines(map(comparison_document, comparisons), output.encoding)
        case "csv":
            return as_csv.write_comparisons(comparisons, columns)
        case _:
            reports = (
                comparison_report(comparison, at, quiet=shown.quiet)
                for at, comparison in enumerate(comparisons, 1)
            )
            return draw_reports(reports, shown.format, output.terminal)
