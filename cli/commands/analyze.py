"""`gradmf analyze`: how predictable the gradients of runs were, and in how many dimensions they moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import shared as options
from ..options.shared import Presentation, Resources

if TYPE_CHECKING:
    from gradmf.gradlog import Analysis, PlanDescription, Settings


@click.command(
    help="""Measure path lengths, predictability (kappa) and predictable rank of the gradients in each RUN.

    RUN is a Zarr store, a folder or a zip file; - takes paths from stdin, one a line. Results go to stdout,
    warnings and errors to stderr. A RUN that fails does not stop the others.
    """,
    short_help="How predictable gradients were, in how many dimensions.",
    epilog="""\b
Examples:
  gradmf analyze run.zarr --predictor one-step --predictor ema:0.9
  ls -d runs/*.zarr | gradmf analyze - --format csv -o kappa.csv""",
)
@options.runs
@options.settings
@options.resources
@options.fail_if
@options.presentation
@options.steps
@click.option(
    "--tensor-steps",
    is_flag=True,
    help="With --format json or jsonl, or with --part: sums of tensors by step too, as compare needs for "
    "intervals.",
)
@click.option(
    "--search",
    is_flag=True,
    help="With --format json or jsonl: the best predictors of each tensor too, as bounds needs them.",
)
@options.band
@click.option("--plan", is_flag=True, help="Show what would be done, with its cost, and stop.")
@options.subspace
@options.window
@options.part
def command(
    runs: tuple[str, ...],
    settings: Settings,
    resources: Resources,
    fail_if: tuple[str, ...],
    shown: Presentation,
    steps: bool,
    tensor_steps: bool,
    search: bool,
    band: int | None,
    plan: bool,
    subspace: int | None,
    window: int | None,
    part: tuple[int, int] | None,
) -> int:
    options.check_steps(steps, shown)
    for option, asked in (("--tensor-steps", tensor_steps), ("--search", search)):
        if part is None and asked and not shown.format.startswith("json"):
            raise click.UsageError(f"{option} goes with --format json or jsonl, not with {shown.format}.")
    if band is not None and not search:
        raise click.UsageError("--band goes with --search.")
    if plan and shown.format == "csv":
        raise click.UsageError("--plan goes with any --format but csv.")
    if plan and fail_if:
        raise click.UsageError("--plan stops before there is anything to hold --fail-if against.")
    settings = options.with_band(options.with_subspace(settings, subspace, window), band)
    if part is not None:
        from .partial import write_partial_analysis

        return write_partial_analysis(runs, part, settings, resources, shown, tensor_steps=tensor_steps)

    from gradmf import gradlog

    from ..formats.as_csv import analysis_columns
    from ..formats.rendering import render
    from ..formats.views_of_analyses import views_of_analyses, views_of_plans
    from ..options.columns import chosen_columns
    from ..options.gates import Gates
    from ..terminal.output import open_output
    from ..terminal.progress import ProgressBar
    from .batch import Batch

    known = gradlog.Vocabulary.of(settings)
    known_columns = analysis_columns(known.predictors, known.epsilons, subspace=settings.subspace is not None)
    columns = chosen_columns(shown.columns, known_columns, shown.format)
    gates = Gates(fail_if, known)
    batch = Batch(runs)
    bar = ProgressBar(quiet=shown.quiet, no_color=shown.no_color)

    def analyze(run: str) -> Analysis:
        with bar.of(run) as progress:
            return gradlog.analyze(
                run, settings, threads=resources.threads, memory=resources.memory, progress=progress,
                tensor_steps=tensor_steps, search=search,
            )  # fmt: skip

    def describe_plan(run: str) -> PlanDescription:
        return gradlog.describe_plan(run, settings, threads=resources.threads, memory=resources.memory)

    with open_output(shown) as output:
        if plan:
            plans = batch.results(describe_plan)
            output.write(render(plans, views_of_plans(), shown, output, several=batch.several))
        else:
            analyses = gates.watch(batch.results(analyze), gradlog.judge)
            views = views_of_analyses(quiet=shown.quiet, steps=steps)
            pieces = render(analyses, views, shown, output, several=batch.several, columns=columns)
            output.write(pieces, to_the_end=bool(gates.rules))
        output.keep = not batch.worthless
    return batch.exit_code or gates.exit_code
