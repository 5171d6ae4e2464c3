"""`gradmf analyze --part`: one part of a run's parameters, into a file for `gradmf merge`."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from gradmf.gradlog import PartialAnalysis, Settings

    from ..options.computing import Resources
    from ..options.showing import Presentation

_AT_MERGE = ": a part is no result, give it to gradmf merge"
_ELSEWHERE = {
    "plan": "",
    "format": _AT_MERGE,
    "columns": _AT_MERGE,
    "steps": _AT_MERGE,
    "fail_if": _AT_MERGE,
    "scratch": ": --scratch goes with whole runs, whose parts are all cut alike",
}
"""Options that a part has no use for, and why."""


def write_partial_analysis(
    runs: Sequence[str],
    part: tuple[int, int],
    settings: Settings,
    resources: Resources,
    shown: Presentation,
    *,
    tensor_steps: bool,
    search: bool,
) -> int:
    """Analyze the part of the one run and write it; the exit code."""
    context = click.get_current_context()
    for other, why in _ELSEWHERE.items():
        if context.get_parameter_source(other) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--part goes without --{other.replace('_', '-')}{why}.")
    if len(runs) != 1 or runs[0] == "-":
        raise click.UsageError("--part takes one RUN.")
    if shown.out is None or _is_terminal(Path(shown.out)):
        raise click.UsageError("--part needs -o FILE: a part is binary, for gradmf merge to read.")

    from gradmf import gradlog

    from ..terminal.progress import ProgressBar
    from .batch import Batch

    number = gradlog.PartNumber(*part)
    batch = Batch(runs)
    bar = ProgressBar(quiet=shown.quiet, no_color=shown.no_color)

    def analyze(run: str) -> PartialAnalysis:
        with bar.of(run) as progress:
            return gradlog.analyze_part(
                run, number, settings, threads=resources.threads, memory=resources.memory,
                progress=progress, tensor_steps=tensor_steps, search=search,
            )  # fmt: skip

    for partial in batch.results(analyze):
        gradlog.write_part(partial, shown.out)
    return batch.exit_code


def _is_terminal(path: Path) -> bool:
    if not path.exists() or not stat.S_ISCHR(path.stat().st_mode):
        return False
    descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY)
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)
