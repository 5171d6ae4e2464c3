"""Absent chunks of the rows that are wanted: what a log may lack, and what it must not."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError
from ..results.result import LogWarning
from .log import GradientLog, Tensor


def absent_chunk_warnings(
    log: GradientLog, tensors: Sequence[Tensor], rows: tuple[int, int], *, strict: bool, nonfinite: str
) -> list[LogWarning]:
    """Absent chunks: an error in a format-1 log, with `strict` and where they read as NaN, else a warning.

    rows : (first, last + 1) stored rows; strict, nonfinite : as of `Settings`

    Raises DataError for these, and for chunks that cannot be listed.
    """
    absent = expected = 0
    places, unwritten, undefined = [], rows[0], []
    for tensor in tensors:
        try:
            inventory = tensor.inventory(rows[1]).since(rows[0])
        except DataError as error:
            raise DataError(f"{log.path}: {error}") from error
        expected += inventory.expected
        if inventory.absent:
            absent += len(inventory.absent)
            first, last = inventory.absent_rows(rows[1])
            places.append(f"'{tensor.name}' rows {max(first, rows[0])}-{last}")
            if not tensor.fill_is_finite:
                undefined.append(tensor)
        if tensor.parameters:
            unwritten = max(unwritten, inventory.unwritten_from(rows))
    if not absent:
        return []
    shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more tensors" if len(places) > 3 else "")
    told = f"{absent} of {expected} chunks {'is' if absent == 1 else 'are'} absent: tensor {shown}"
    if log.format_version is not None:
        raise DataError(
            f"{log.path}: {told}; a format {log.format_version} log stores every chunk, so they were lost: "
            "restore them, or leave the tensor or the rows out with --exclude or --rows"
        )
    end = f"no row from {unwritten} on was ever written: --rows :{unwritten} leaves them out"
    ends = rows[0] < unwritten < rows[1]
    if strict:
        told += "; without --strict they are read as the store's fill value"
        raise DataError(f"{log.path}: {told}{f'; {end}' if ends else ''}")
    if undefined and nonfinite == "fail":
        told += f"; the fill value of '{undefined[0].name}' is not finite"
        raise DataError(
            f"{log.path}: {told}: restore the chunks, or leave these steps out with --nonfinite drop"
            f"{f'; {end}' if ends else ''}"
        )
    told += "; read as the store's fill value (Zarr writers skip all-zero chunks)"
    return [LogWarning("chunks-absent", f"{told}{f'; {end}' if ends else ''}")]
