"""`gradmf info`: what is in a store, without reading gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..options import computing, remote, showing

if TYPE_CHECKING:
    from ..options.showing import Presentation


@click.command(
    help="""Show the tensors, chunks, codecs, size and metadata of each RUN, without reading gradients.

    RUN is a Zarr store, a folder or a zip file, or its s3://, gs:// or az:// address; - takes paths from
    stdin, one a line.
    """,
    short_help="What is in a store, without reading gradients.",
    epilog="""\b
Examples:
  gradmf info run.zarr
  gradmf info runs/*.zarr --format jsonl | jq -r '[.path, .rows, .stored_bytes] | @tsv'""",
)
@computing.runs
@computing.truncate
@computing.gradients
@showing.presentation
@remote.access
def command(runs: tuple[str, ...], truncate: bool, gradients: tuple[str, ...], shown: Presentation) -> int:
    from gradmf import gradlog

    from ..formats.views import views_of_descriptions
    from .runner import Runner

    runner = Runner(runs, shown, views_of_descriptions())
    return runner.show_runs(lambda run: gradlog.describe(run, truncate=truncate, gradients=gradients))
