"""`gradmf info`: what is in a store, without reading gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from . import options
from .options import Presentation

if TYPE_CHECKING:
    from gradmf.gradlog import LogDescription

    from .output import Output


@click.command(
    short_help="What is in a store, without reading gradients.",
    epilog="""\b
Examples:
  gradmf info run.zarr
  gradmf info runs/*.zarr --format jsonl | jq -r '[.path, .rows, .stored_bytes] | @tsv'""",
)
@options.runs
@options.truncate
@options.presentation
def command(runs: tuple[str, ...], truncate: bool, shown: Presentation) -> int:
    """Show the tensors, chunks, codecs, size and metadata of each RUN, without reading gradients.

    RUN is a Zarr store, a folder or a zip file; - takes paths from stdin, one a line.
    """
    from gradmf import gradlog

    from .as_csv import DESCRIPTION_COLUMNS
    from .batch import Batch
    from .columns import chosen_columns
    from .output import open_output

    columns = chosen_columns(shown.columns, DESCRIPTION_COLUMNS, shown.format)
    batch = Batch(runs)
    with open_output(shown) as output:
        logs = batch.results(lambda run: gradlog.describe(run, truncate=truncate))
        output.write(_render(logs, shown, output, columns, several=batch.several))
        output.keep = not batch.worthless
    return batch.exit_code


def _render(
    logs: Iterator[LogDescription],
    shown: Presentation,
    output: Output,
    columns: Sequence[str],
    *,
    several: bool,
) -> Iterator[str]:
    from gradmf.gradlog import description_document

    from . import as_csv, as_json
    from .info_report import info_report
    from .reports import draw_reports

    match shown.format:
        case "json":
            return as_json.write_json(map(description_document, logs), output.encoding, several=several)
        case "jsonl":
            return as_json.write_json_lines(map(description_document, logs), output.encoding)
        case "csv":
            return as_csv.write_descriptions(logs, columns)
        case _:
            return draw_reports(map(info_report, logs), shown.format, output.terminal)
