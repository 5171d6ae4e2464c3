"""`gradmf analyze`: how predictable the gradients of runs were, and in how many dimensions they moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing

if TYPE_CHECKING:
    from gradmf.gradlog import Analysis, PlanDescription, Settings, Thresholds

    from ..options.computing import Resources
    from ..options.showing import Presentation


@click.command(
    help="""Measure path lengths, predictability (kappa) and predictable rank of the gradients in each RUN.

    RUN is a Zarr store, a folder or a zip file, or its s3://, gs:// or az:// address; - takes paths from
    stdin, one a line. Results go to stdout, warnings and errors to stderr. A RUN that fails does not stop
    the others.
    """,
    short_help="How predictable gradients were, in how many dimensions.",
    epilog="""\b
Examples:
  gradmf analyze run.zarr --predictor one-step --predictor ema:0.9
  ls -d runs/*.zarr | gradmf analyze - --format csv -o kappa.csv""",
)
@computing.runs_or_like
@computing.settings
@computing.resources
@showing.fail_if
@showing.presentation
@showing.top
@showing.findings
@showing.steps
@click.option(
    "--tensor-steps",
    is_flag=True,
    help="With --format json or jsonl, or with --part: sums of tensors by step too, as compare needs for "
    "intervals; with -o FILE, more than a million numbers go beside it, into FILE.steps.npz.",
)
@click.option(
    "--search",
    is_flag=True,
    help="With --format json or jsonl, or with --part: the best predictors of each tensor too, as bounds "
    "needs them.",
)
@computing.band
@click.option("--plan", is_flag=True, help="Show what would be done, with its cost, and stop.")
@computing.like
@computing.workers
@computing.windows
@computing.groups
@computing.part
@remote.access
def command(
    runs: tuple[str, ...],
    settings: Settings,
    resources: Resources,
    fail_if: tuple[str, ...],
    shown: Presentation,
    top: int | None,
    thresholds: Thresholds | None,
    steps: bool,
    tensor_steps: bool,
    search: bool,
    plan: bool,
    like: str | None,
    workers: int | None,
    part: tuple[int, int] | None,
) -> int:
    if like is None and not runs:
        raise click.UsageError("Missing argument 'RUN...'.")
    if like is not None and (runs or not plan):
        raise click.UsageError("--like goes with --plan, in place of RUN.")
    if workers is not None and (not plan or resources.scratch is not None):
        raise click.UsageError("--workers goes with --plan, and without --scratch.")
    showing.check_steps(steps, shown)
    for option, asked in (("--tensor-steps", tensor_steps), ("--search", search)):
        if part is None and asked and shown.takes != "documents":
            raise click.UsageError(f"{option} goes with --format json or jsonl, not with {shown.format}.")
    if settings.band is not None and not search:
        raise click.UsageError("--band goes with --search.")
    if plan and shown.takes == "rows":
        raise click.UsageError(f"--plan goes with any --format but {shown.format}.")
    if plan and fail_if:
        raise click.UsageError("--plan stops before there is anything to hold --fail-if against.")
    if resources.dask is not None and (plan or part is not None):
        raise click.UsageError(f"--dask goes without --{'plan' if plan else 'part'}.")
    if part is not None:
        from .partial import write_partial_analysis

        return write_partial_analysis(
            runs, part, settings, resources, shown, tensor_steps=tensor_steps, search=search
        )

    from gradmf import gradlog

    from ..formats.views import views_of_analyses, views_of_plans
    from .runner import Runner

    if plan:
        plans: Runner[PlanDescription] = Runner(runs or (like or "",), shown, views_of_plans(settings))
        return plans.show_runs(
            lambda run: gradlog.describe_plan(
                run if like is None else gradlog.declared_log(run),
                settings,
                threads=resources.threads,
                memory=resources.memory,
                scratch=resources.scratch,
                workers=workers,
            )
        )
    views = views_of_analyses(settings, quiet=shown.quiet, steps=steps, top=top, thresholds=thresholds)
    runner = Runner(runs, shown, views, resources)
    runner.hold_to(fail_if, gradlog.Vocabulary.of(settings), gradlog.judge)

    def analyze(run: str) -> Analysis:
        with runner.at_work_on(run) as granted:
            return gradlog.analyze(run, settings, **granted, tensor_steps=tensor_steps, search=search)

    return runner.show_runs(analyze)
