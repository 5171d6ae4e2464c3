"""Absent chunks of the rows that are wanted: what a log may lack, and what it must not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..errors import DataError
from ..results.result import LogWarning
from .inventory import ChunkInventory
from .listing_ahead import list_together
from .log import GradientLog, Tensor

TOGETHER = 32
"""Tensors whose chunks a thread looks for before it takes others."""


def absent_chunk_warnings(
    log: GradientLog,
    tensors: Sequence[Tensor],
    rows: tuple[int, int],
    *,
    strict: bool,
    nonfinite: str,
    taken: str = "read",
) -> list[LogWarning]:
    """Absent chunks: an error in a format-1 log, with `strict` and where they read as NaN, else a warning.

    rows : (first, last + 1) stored rows; strict, nonfinite : as of `Settings`
    taken : what is done with them: they are "read" as the fill value, or "written" as it

    Raises DataError for these, and for chunks that cannot be listed.
    """
    absent = expected = 0
    places, unwritten, undefined = [], rows[0], []
    for tensor, inventory in zip(tensors, _inventories(log, tensors, rows), strict=True):
        expected += inventory.expected
        if inventory.absent:
            absent += len(inventory.absent)
            first, last = inventory.absent_rows(rows[1])
            places.append(f"'{tensor.name}'{inventory.absent_from} rows {max(first, rows[0])}-{last}")
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
        told += f"; without --strict they are {taken} as the store's fill value"
        raise DataError(f"{log.path}: {told}{f'; {end}' if ends else ''}")
    if undefined and nonfinite == "fail":
        told += f"; the fill value of '{undefined[0].name}' is not finite"
        raise DataError(
            f"{log.path}: {told}: restore the chunks, or leave these steps out with --nonfinite drop"
            f"{f'; {end}' if ends else ''}"
        )
    told += f"; {taken} as the store's fill value (Zarr writers skip all-zero chunks)"
    return [LogWarning("chunks-absent", f"{told}{f'; {end}' if ends else ''}")]


def _inventories(
    log: GradientLog, tensors: Sequence[Tensor], rows: tuple[int, int]
) -> Iterator[ChunkInventory]:
    """Of each tensor, in order: the system is asked from two threads, which wait for it most of the time."""

    def look(some: Sequence[Tensor]) -> list[ChunkInventory]:
        try:
            return [tensor.inventory(rows[1]).since(rows[0]) for tensor in some]
        except DataError as error:
            raise DataError(f"{log.path}: {error}") from error

    list_together(log, tensors, rows[1])
    lots = [tensors[at : at + TOGETHER] for at in range(0, len(tensors), TOGETHER)]
    if len(lots) < 2:
        yield from itertools.chain.from_iterable(map(look, lots))
        return
    with ThreadPoolExecutor(2, thread_name_prefix="gradmf-inventory") as pool:
        yield from itertools.chain.from_iterable(pool.map(look, lots))
