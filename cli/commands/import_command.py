"""`gradmf import`: a log of what people already have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, showing
from ..options.declaring import bundle, paths

if TYPE_CHECKING:
    from gradmf.gradlog import ImportPlan, ImportSettings, ImportSummary


def _settings(
    updates: bool,
    step_from: str | None,
    names: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    allow_rounding: bool,
) -> ImportSettings:
    from gradmf.gradlog import ImportSettings

    return ImportSettings(updates, step_from, names, include, exclude, allow_rounding)


@click.command(
    help="""Make a log of gradients in files, or of checkpoints: RUN.zarr, which appears whole or not at all.

    SRC is a file a step (.npz, .safetensors, .pt, .pth, .npy), one file of many (.npy, HDF5), a Zarr store,
    or a folder of such. With --updates it is a checkpoint, or a folder of some, and rows are the differences
    of each to the one before. - takes paths from stdin, one a line. docs/importing.md has more.
    """,
    short_help="Make a log of files of gradients, or of checkpoints.",
    epilog="""\b
Examples:
  gradmf import gradients/*.npz -o imported.zarr
  gradmf import --updates checkpoints -o updates.zarr && gradmf analyze updates.zarr""",
)
@click.argument("sources", nargs=-1, required=True, metavar="SRC...", shell_complete=paths("file"))
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(),
    metavar="RUN.zarr",
    help="The log to write, where nothing is yet.",
)
@bundle(
    "settings",
    _settings,
    click.option("--updates", is_flag=True, help="Take differences of consecutive checkpoints."),
    click.option(
        "--step-from",
        metavar="REGEX",
        help="Where a path has the training step: an expression with one group; order counts from 0.  "
        "[default: what the source says, else the number in its name]",
    ),
    click.option(
        "--names",
        metavar="FILE",
        shell_complete=paths("file"),
        help="Where a step is one vector: a table of its tensors, JSON or CSV of name, shape and offset.",
    ),
    click.option(
        "--include", multiple=True, metavar="GLOB", help="Only tensors of such a name (repeatable)."
    ),
    click.option("--exclude", multiple=True, metavar="GLOB", help="No tensors of such a name (repeatable)."),
    click.option(
        "--allow-rounding",
        is_flag=True,
        help="With --updates: even where rounding of 16-bit weights is more than half of their energy.",
    ),
)
@computing.memory
@click.option("--dry-run", is_flag=True, help="Show what would be read and written, and stop.")
@showing.no_summary
@showing.no_color
def command(
    sources: tuple[str, ...],
    out: str | None,
    settings: ImportSettings,
    memory: int,
    dry_run: bool,
    quiet: bool,
    no_color: bool,
) -> int:
    if out is None and not dry_run:
        raise click.UsageError("Missing option '-o': where the log is to be.")
    if settings.allow_rounding and not settings.updates:
        raise click.UsageError("--allow-rounding goes with --updates.")

    from gradmf import gradlog

    from ..terminal.messages import tell_warning
    from ..terminal.output import naming
    from ..terminal.progress import ProgressBar
    from .batch import paths_of

    found = list(paths_of(sources))
    if out is None or dry_run:
        _show(gradlog.plan_import(found, settings, memory=memory), no_color=no_color)
        return 0
    bar = ProgressBar(quiet=quiet, no_color=no_color)
    with naming(out), bar.of(out) as progress:
        summary = gradlog.import_log(found, out, settings, memory=memory, progress=progress)
    for warning in summary.warnings:
        tell_warning(warning.message)
    if not quiet:
        click.echo(_told(summary))
    return 0


def _show(plan: ImportPlan, *, no_color: bool) -> None:
    from gradmf.gradlog.reports.import_report import import_report

    from ..formats.as_table import draw_table
    from ..options.showing import Presentation
    from ..terminal.messages import tell_warning
    from ..terminal.output import open_output

    for warning in plan.warnings:
        if warning.code != "left-out":  # which has a table
            tell_warning(warning.message)
    with open_output(Presentation("table", None, False, no_color)) as output:
        output.write([draw_table(import_report(plan), output.terminal)])


def _told(summary: ImportSummary) -> str:
    from gradmf.gradlog.reports.figures import data_size, run_size
    from gradmf.gradlog.reports.import_report import row_words

    from ..terminal.messages import printable

    plan = summary.plan
    steps = [source.step for source in plan.steps][plan.updates :]
    parameters = sum(tensor.parameters for tensor in plan.tensors)
    told = f"{printable(summary.out)}: {run_size(plan.rows, steps, len(plan.tensors), parameters)}, "
    told += f"{row_words(plan)}, {data_size(plan.bytes_written)}"
    if plan.series:
        told += f", series {', '.join(plan.series)}"
    if summary.rounding is not None:
        told += f"; rounding of the weights is {summary.rounding:.2g} of the updates' energy"
    return told
