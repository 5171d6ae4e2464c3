"""Rough seconds that reading takes on two cores of a recent server: what plans are weighed by."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..logs.log import Tensor
from .parameter_range import Box
from .range_table import Ranges
from .ranges import chunk_spans

CORES = 2
"""Of the server whose seconds these are: a core alone takes so many times as long."""
STARTUP_SECONDS = 0.35
CALL_SECONDS = 4e-4
"""For each box of a tensor that is read."""
TASK_SECONDS = 2e-4
"""For each tile of a block: Python's share, of which threads take turns."""
RAW_RATE = 5e9
CHECKED_RATE = 3e9
DECODE_RATE = 1.5e9
SLOW_RATE = 2.5e8
"""Bytes a second that are read: stored as they are, with a checksum, packed by zstd or Blosc, or else."""
STATE_RATE = 8e9
"""Bytes a second of what columns carry from one block of rows to the next, there and back."""
FUSED_RATE = 5e9
"""Bytes a second that are summed row by row."""


def pass_seconds(tensors: Sequence[Tensor], ranges: Ranges, rows: tuple[int, int], state: int) -> float:
    """Starting, decoding every chunk of the ranges, and the sums of path lengths.

    rows : (first, last + 1) stored rows; state : bytes that each column carries from block to block
    """
    count = rows[1] - rows[0]
    seconds = STARTUP_SECONDS
    for item, times in ranges.alike:
        blocks = len(item.row_blocks)
        each = blocks * (len(item.segments) * CALL_SECONDS + item.tile_count * TASK_SECONDS)
        if blocks > 1:
            each += 2.0 * blocks * item.width * state / STATE_RATE
        for segment in item.segments:
            tensor = tensors[segment.tensor]
            summed = float(count * segment.width) * tensor.compute_dtype.itemsize
            # Of what is cut, `decodes` pieces share the chunks that the size counts once.
            each += item.decodes * reading_seconds(tensor, rows, segment.box) + summed / FUSED_RATE
        seconds += times * each
    return seconds


def reading_seconds(tensor: Tensor, rows: tuple[int, int], box: Box) -> float:
    """Reading a box of a tensor, each of its chunks once. rows : (first, last + 1) stored rows"""
    size = float((rows[1] - rows[0]) * math.prod(part.stop - part.start for part in box)) * tensor.entry_bytes
    return chunk_reads(tensor, rows, box) * tensor.chunk_seconds + size / reading_rate(tensor)


def chunk_reads(tensor: Tensor, rows: tuple[int, int], box: Box) -> int:
    """How many chunks a box of a tensor lies in. rows : (first, last + 1) stored rows"""
    tall = -(-rows[1] // tensor.chunks[0]) - rows[0] // tensor.chunks[0]
    return tall * math.prod(map(len, chunk_spans(box, tensor.chunks[1:])))


def reading_rate(tensor: Tensor) -> float:
    """Bytes a second, decoded, on both cores."""
    codecs = set(tensor.codecs) - {"bytes", "sharding", "transpose"}
    if not codecs:
        return RAW_RATE
    if codecs == {"crc32c"}:
        return CHECKED_RATE
    return DECODE_RATE if codecs <= {"crc32c", "zstd", "blosc", "lz4"} else SLOW_RATE
