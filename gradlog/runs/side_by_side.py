"""Plans that read the same columns of several logs, block by block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..engine.plan import PLANNED_THREADS, Plan
from ..engine.range_table import Ranges
from ..engine.ranges import Limits, block_bytes, chunk_spans, column_ranges, entry_bytes, reading_bytes
from ..engine.request import Request, Span
from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..sizes import format_size


def plan_side_by_side(
    request: Request,
    tensors: Sequence[Sequence[Tensor]],
    spans: Sequence[tuple[int, int]],
    window: int,
) -> list[Plan]:
    """A plan for each log; their ranges are the same columns, all rows at once.

    request : of the first log, with as many rows as are kept; tensors, spans : of each log, the same
    parameters, and its (first, last + 1) stored rows; window : rows of a window

    Raises MemoryLimitError where the work does not fit.
    """
    from ..measures.subspaces.subspace import window_bytes  # deferred: few compare subspaces

    request.check_chunks()
    most = max(last - first for first, last in spans)
    for planned in PLANNED_THREADS:  # as in `make_plan`: the borders of ranges don't depend on the threads
        # Three matrices where one log has two.
        fixed = window_bytes(window, request.shape(Span.COLUMNS, planned)) * 3 // 2
        room = (request.room - fixed) // len(tensors)
        if room >= request.memory // 16:
            break
    if room < request.memory // 16:
        raise MemoryLimitError(
            f"matrices of windows of {window} rows take more than --memory "
            f"{format_size(request.memory)} holds: give --memory {request.enough(fixed)}, or a shorter "
            "--window"
        )
    limits = Limits((0, most), room, 0, True, request.block_rows(Span.COLUMNS))
    columns = _columns(tensors, limits)
    plans = []
    for own, span in zip(tensors, spans, strict=True):
        ranges = Ranges(replace(item, row_blocks=(span,)) for item in columns)
        block = max((block_bytes(own, item) for item in ranges), default=0)
        beside = max((reading_bytes(own, item) for item in ranges), default=0)
        # Blocks larger than aimed at have work for all threads while they are read, and then again while they
        # are multiplied: four of them at once would only take memory.
        buffers = 2 if block <= limits.block_bytes and 2 * block + beside <= room else 1
        plans.append(
            Plan(
                rows=span,
                ranges=ranges,
                measures=(),
                span=Span.COLUMNS,
                block_bytes=block,
                buffers=buffers,
                workers=min(request.threads, planned),
                memory=fixed // len(tensors) + buffers * block + beside,
                decoding_bytes=request.decoding_bytes,
                decoded_bytes=(span[1] - span[0]) * ranges.decoded_row_bytes(own),
            )
        )
    buffers = min((plan.buffers for plan in plans), default=1)
    return [replace(plan, buffers=buffers) for plan in plans]


def _columns(tensors: Sequence[Sequence[Tensor]], limits: Limits) -> Ranges:
    """Ranges along the chunk grid of the log by which least is decoded in all, narrow enough for each."""
    found = []
    for own in tensors:
        widest = max(
            entry_bytes(tensor) / entry_bytes(chosen)
            for side in tensors
            for tensor, chosen in zip(side, own, strict=True)
        )
        found.append(column_ranges(own, replace(limits, room=int(limits.room / widest))))
    return min(found, key=lambda ranges: sum(_whole_chunk_bytes(own, ranges) for own in tensors))


def _whole_chunk_bytes(tensors: Sequence[Tensor], ranges: Ranges) -> int:
    """Bytes of one row that are decoded where ranges may lie across chunks, each chunk whole."""
    decoded = 0
    for segment in (segment for item in ranges for segment in item.segments):
        tensor = tensors[segment.tensor]
        chunks = tensor.chunks[1:]
        extents = [
            min(span.stop * size, whole) - span.start * size
            for span, size, whole in zip(chunk_spans(segment.box, chunks), chunks, tensor.shape, strict=True)
        ]
        decoded += math.prod(extents) * tensor.entry_bytes
    return decoded
