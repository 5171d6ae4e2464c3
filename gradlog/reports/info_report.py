"""The report of what is in a store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..sizes import extents
from .figures import NOTHING, count, counted, data_size, percent, run_size
from .report import Column, Report, Table

if TYPE_CHECKING:
    from ..logs.description import LogDescription, TensorDescription


def info_report(log: LogDescription) -> Report:
    """All that a person sees of `log`."""
    tables = [_tensors(log)]
    if log.left_out:
        tables.append(_left_out(log))
    if log.attributes:
        tables.append(_metadata(log))
    return Report(heading=log.path, facts=_facts(log), tables=tuple(tables))


def _facts(log: LogDescription) -> tuple[str, ...]:
    layout = (
        "foreign layout" if log.format_version is None else f"{log.kind.noun} log format {log.format_version}"
    )
    expected = sum(tensor.expected_chunks for tensor in log.tensors)
    absent = sum(tensor.absent_chunks for tensor in log.tensors)
    ranks = "" if log.ranks is None else f", a set of {counted(log.ranks, 'rank')}"
    facts = [
        f"{layout}, Zarr v{log.zarr_format}{ranks}",
        run_size(log.rows, log.steps, len(log.tensors), log.parameters),
        f"{data_size(log.raw_bytes)} of {log.kind.name}, {data_size(log.stored_bytes)} stored{_ratio(log)}, "
        f"{counted(expected, 'chunk')}, {count(absent) if absent else 'none'} absent",
    ]
    if log.kind.every is not None:
        facts.append(f"updates of {counted(log.kind.every, 'training step')} each")
    if log.format_version is None:
        facts.append(f"rows along {log.step_axis}")
    if log.series:
        facts.append(f"series: {', '.join(log.series)}")
    return tuple(facts)


def _ratio(log: LogDescription) -> str:
    return f" ({percent(log.stored_bytes / log.raw_bytes)})" if log.raw_bytes else ""


def _tensors(log: LogDescription) -> Table:
    tensors = log.tensors
    columns: list[tuple[Column, list[str]]] = [
        (Column("tensor", "left", shrinks=True), [t.name for t in tensors]),
        (Column("shape", "left"), [extents(t.shape) or "scalar" for t in tensors]),
        (Column("dtype", "left"), [t.dtype for t in tensors]),
        (Column("parameters", dim=True, yields=4), [count(t.parameters) for t in tensors]),
        (Column("chunks", "left", dim=True), [extents(t.chunks) for t in tensors]),
        (Column("codecs", "left", dim=True, yields=2), [", ".join(t.codecs) or "none" for t in tensors]),
        (Column("reader", "left", dim=True, yields=5), [t.reader for t in tensors]),
        (Column("rows", yields=0 if _uncommitted(log) else 3), [count(t.rows) for t in tensors]),
        (Column("stored"), [data_size(t.stored_bytes) for t in tensors]),
        (Column("absent", yields=0 if _any_absent(log) else 3), [_absent(t) for t in tensors]),
    ]
    if any(tensor.absent_rows for tensor in tensors):
        columns.append((Column("no gradient"), [_without(t, log.rows) for t in tensors]))
    if any(tensor.shards for tensor in tensors):
        shards = [extents(tensor.shards) if tensor.shards else NOTHING for tensor in tensors]
        columns.insert(5, (Column("shards", "left", dim=True, yields=1), shards))
    if log.ranks is not None:
        columns.insert(4, (Column("boxes"), [count(t.boxes) for t in tensors]))
    return Table.of("Tensors", columns)


def _uncommitted(log: LogDescription) -> bool:
    return any(tensor.rows != log.rows for tensor in log.tensors)


def _any_absent(log: LogDescription) -> bool:
    return any(tensor.absent_chunks for tensor in log.tensors)


def _absent(tensor: TensorDescription) -> str:
    return f"{count(tensor.absent_chunks)} of {count(tensor.expected_chunks)}"


def _without(tensor: TensorDescription, rows: int) -> str:
    """Rows that came without a gradient."""
    if not tensor.absent_rows:
        return NOTHING
    most = "at most " if tensor.absent_rows_merged else ""
    absent = sum(last + 1 - first for first, last in tensor.absent_rows)
    return f"{most}{count(absent)} of {counted(rows, 'row')}"


def _left_out(log: LogDescription) -> Table:
    rows = tuple(log.left_out.items())
    return Table(f"No {log.kind.name}", (Column("array", "left"), Column("why", "left", shrinks=True)), rows)


def _metadata(log: LogDescription) -> Table:
    rows = tuple((key, _value(value)) for key, value in log.attributes.items())
    return Table("Metadata", (Column("key", "left"), Column("value", "left", shrinks=True)), rows)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
