"""The long table as CSV: nothing for null, numbers in full precision."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .exported_series import Series
from .long_table import COLUMNS, Lines, lines_of

COMPRESSED = ".gz"
"""The ending of a path whose file is compressed."""


def write_csv(runs: Iterable[tuple[str, Iterable[Series]]], file: IO[bytes], *, compress: bool) -> int:
    """Write the series of each run by its path; the number of lines. compress : by gzip"""
    count = 0
    with _stream(file, compress) as stream:
        stream.write(f"{','.join(COLUMNS)}\n".encode())
        for run, each in runs:
            for series in each:
                for lines in lines_of(run, series):
                    # Paths that are no valid UTF-8 come out as the bytes that they were.
                    stream.write("".join(_text(lines)).encode("utf-8", "surrogateescape"))
                    count += lines.count
    return count


@contextlib.contextmanager
def _stream(file: IO[bytes], compress: bool) -> Iterator[IO[bytes]]:
    if not compress:
        yield file
        return
    # Without name and time, so that the same results give the same file.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
        yield packed  # type: ignore[misc]


def _text(lines: Lines) -> Iterator[str]:
    head = ",".join("" if text is None else _quoted(text) for text in lines.texts)
    columns = [_cells(column, lines.count) for column in (*lines.wholes, *lines.doubles)]
    return (f"{head},{','.join(cells)}\n" for cells in zip(*columns, strict=True))


def _cells(column: NDArray[Any] | None, count: int) -> list[str]:
    if column is None:
        return [""] * count
    if np.issubdtype(column.dtype, np.integer):
        return [str(number) for number in column.tolist()]
    return ["" if number != number else repr(number) for number in column.tolist()]


def _quoted(text: str) -> str:
    """As RFC 4180 has it. The csv module leaves a bare carriage return as it is, which ends a line."""
    if text and not set(text) & set(',"\r\n') and text == text.strip():
        return text
    return '"' + text.replace('"', '""') + '"'
