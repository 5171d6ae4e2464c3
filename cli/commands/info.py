"""`gradmf info`: what is in a store, without reading gradients."""

from __future__ import annotations

import click

from ..options import shared as options
from ..options.shared import Presentation


@click.command(
    help="""Show the tensors, chunks, codecs, size and metadata of each RUN, without reading gradients.

    RUN is a Zarr store, a folder or a zip file; - takes paths from stdin, one a line.
    """,
    short_help="What is in a store, without reading gradients.",
    epilog="""\b
Examples:
  gradmf info run.zarr
  gradmf info runs/*.zarr --format jsonl | jq -r '[.path, .rows, .stored_bytes] | @tsv'""",
)
@options.runs
@options.truncate
@options.gradients
@options.presentation
def command(runs: tuple[str, ...], truncate: bool, gradients: tuple[str, ...], shown: Presentation) -> int:
    from gradmf import gradlog

    from ..formats.as_csv import DESCRIPTION_COLUMNS, write_descriptions
    from ..formats.rendering import Views, render
    from ..options.columns import chosen_columns
    from ..reports.info_report import info_report
    from ..terminal.output import open_output
    from .batch import Batch

    columns = chosen_columns(shown.columns, DESCRIPTION_COLUMNS, shown.format)
    batch = Batch(runs)
    views = Views(gradlog.description_document, lambda log, _: info_report(log), write_descriptions)
    with open_output(shown) as output:
        logs = batch.results(lambda run: gradlog.describe(run, truncate=truncate, gradients=gradients))
        output.write(render(logs, views, shown, output, several=batch.several, columns=columns))
        output.keep = not batch.worthless
    return batch.exit_code
