"""The long table as Parquet, by pyarrow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

import numpy as np

from ..libraries import load_library
from .exported_series import Series
from .long_table import BATCH_LINES, COLUMNS, DOUBLES, TEXTS, WHOLES, Lines, lines_of


def load(name: str = "pyarrow.parquet") -> Any:
    """A module of pyarrow. Raises UsageError, which names the extra, where it cannot be loaded."""
    return load_library(name, "Parquet needs", "pip install 'gradmf[parquet]'")


def write_parquet(runs: Iterable[tuple[str, Iterable[Series]]], file: IO[bytes]) -> int:
    """Write the series of each run by its path, compressed by zstd; the number of lines.

    Memory holds one row group of at most 2 BATCH_LINES lines.
    """
    arrow, parquet = load("pyarrow"), load()
    schema = arrow.schema(
        [
            *((name, arrow.string()) for name in TEXTS),
            *((name, arrow.int64()) for name in WHOLES),
            *((name, arrow.float64()) for name in DOUBLES),
        ]
    )
    total, held = 0, 0
    waiting: list[Any] = []

    def flush() -> None:
        nonlocal held
        if held:
            writer.write_table(arrow.Table.from_batches(waiting, schema), row_group_size=held)
        waiting.clear()
        held = 0

    # Doubles are as good as unique: their dictionary would cost more than it saves.
    with parquet.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=[*TEXTS, *WHOLES], store_schema=False
    ) as writer:
        for run, each in runs:
            for series in each:
                for lines in lines_of(run, series):
                    waiting.append(_batch(arrow, schema, lines))
                    held += lines.count
                    total += lines.count
                    if held >= BATCH_LINES:
                        flush()
        flush()
    return total


def _batch(arrow: Any, schema: Any, lines: Lines) -> Any:
    held = (*lines.texts, *lines.wholes, *lines.doubles)
    columns = []
    for name, column in zip(COLUMNS, held, strict=True):
        kind = schema.field(name).type
        if column is None:
            columns.append(arrow.nulls(lines.count, kind))
        elif isinstance(column, str):
            columns.append(arrow.repeat(arrow.scalar(valid_text(column), kind), lines.count))
        else:
            missing = np.isnan(column) if name in DOUBLES else None
            columns.append(arrow.array(column, kind, mask=missing))
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def valid_text(text: str) -> str:
    """The text, with bytes of a path that are no valid UTF-8 as escapes: there is no other place for them."""
    return text.encode("utf-8", "backslashreplace").decode()
