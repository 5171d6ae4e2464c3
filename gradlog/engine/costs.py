"""Rough seconds that a pass takes on two cores of a recent server: what methods are weighed by."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..logs.log import Tensor
from .ranges import ParameterRange, chunk_spans

STARTUP_SECONDS = 0.35
CHUNK_SECONDS = 3e-5
"""For each chunk that zarrs decodes, whatever its size."""
PLAIN_CHUNK_SECONDS = 5e-4
"""For each chunk that zarr-python decodes."""
CALL_SECONDS = 4e-4
"""For each box of a tensor that is read."""
TASK_SECONDS = 2e-4
"""For each tile of a block: Python's share, of which threads take turns."""
RAW_RATE = 4e9
CHECKED_RATE = 3e9
DECODE_RATE = 1.5e9
SLOW_RATE = 2.5e8
"""Bytes a second that are read: stored as they are, with a checksum, packed by zstd or Blosc, or else."""
STATE_RATE = 4e9
"""Bytes a second of what columns carry from one block of rows to the next, there and back."""
FUSED_RATE = 5e9
PROJECT_RATE = 6e9
"""Bytes a second."""
PRODUCT_RATE = 2e11
COLUMN_PRODUCT_RATE = 5e10
"""Pairs of entries a second, of Gram matrices over rows in float32 and over columns in float64."""
EIGEN_RATE = 1.5e10
"""Cubes of a matrix's size a second, for its eigenvalues; with vectors ten times as long."""
TYPICAL_BASIS = 64
"""Directions that the incremental method begins with, and that most logs do with."""


def pass_seconds(
    tensors: Sequence[Tensor], ranges: Sequence[ParameterRange], rows: tuple[int, int], state: int
) -> float:
    """Starting, decoding every chunk of the ranges, and the sums of path lengths.

    rows : (first, last + 1) stored rows; state : bytes that each column carries from block to block
    """
    count = rows[1] - rows[0]
    seconds = STARTUP_SECONDS
    for item in ranges:
        blocks = len(item.row_blocks)
        seconds += blocks * (len(item.segments) * CALL_SECONDS + len(item.tiles) * TASK_SECONDS)
        if blocks > 1:
            seconds += 2.0 * blocks * item.width * state / STATE_RATE
        for segment in item.segments:
            tensor = tensors[segment.tensor]
            size = float(count * segment.width)
            tall = -(-rows[1] // tensor.chunks[0]) - rows[0] // tensor.chunks[0]
            wide = math.prod(map(len, chunk_spans(segment.box, tensor.chunks[1:])))
            each = CHUNK_SECONDS if tensor.fast is not None else PLAIN_CHUNK_SECONDS
            read = tall * wide * each + size * tensor.entry_bytes / reading_rate(tensor)
            # Of what is cut, `decodes` pieces share the chunks that the size counts once.
            seconds += item.decodes * read + size * tensor.compute_dtype.itemsize / FUSED_RATE
    return seconds


def reading_rate(tensor: Tensor) -> float:
    """Bytes a second, decoded, on both cores."""
    codecs = set(tensor.codecs) - {"bytes", "sharding", "transpose"}
    if not codecs:
        return RAW_RATE if tensor.fast is not None else CHECKED_RATE
    if codecs == {"crc32c"}:
        return CHECKED_RATE
    return DECODE_RATE if codecs <= {"crc32c", "zstd", "blosc", "lz4"} else SLOW_RATE


def exact_seconds(parameters: Sequence[int], rows: int) -> float:
    """Gram matrices and eigenvalues of every tensor, of so many parameters each, and of the whole model."""
    total = float(sum(parameters))
    if total < rows - 1:
        return rows * total**2 / COLUMN_PRODUCT_RATE + sum(
            float(size) ** 3 / EIGEN_RATE for size in _scopes(parameters)
        )
    sizes = (min(size, rows) for size in _scopes(parameters))
    return rows**2 * total / PRODUCT_RATE + sum(float(size) ** 3 / EIGEN_RATE for size in sizes)


def incremental_seconds(parameters: Sequence[int], rows: int) -> float:
    """Bases of every tensor and of the whole model, as long as they stay small."""
    basis = float(TYPICAL_BASIS)
    scopes = _scopes(parameters)
    products = 10 * basis * rows * float(sum(scopes)) / PRODUCT_RATE
    return products + len(scopes) * rows / basis * 10 * (2 * basis) ** 3 / EIGEN_RATE


def sketch_seconds(parameters: Sequence[int], rows: int, dim: int) -> float:
    """A projection of all increments, and the spectra of the sketches."""
    seconds = 4 * rows * float(sum(parameters)) / PROJECT_RATE
    return seconds + len(parameters) * (
        2 * rows * float(dim) ** 2 / PRODUCT_RATE + 10 * min(rows, dim) ** 3 / EIGEN_RATE
    )


def _scopes(parameters: Sequence[int]) -> list[int]:
    """Parameters of each spectrum: the whole model's beside those of several tensors."""
    used = [size for size in parameters if size]
    return used if len(used) == 1 else [*used, sum(used)]
