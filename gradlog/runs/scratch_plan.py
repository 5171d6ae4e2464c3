"""Whether chunks that are too tall for memory are decoded into scratch files, or as often as it takes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..engine.costs import reading_seconds
from ..engine.plan import Plan
from ..engine.ranges import whole_box
from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..logs.scratch import Scratch, ScratchTensor, bytes_needed
from .wanted import RANK_METHODS

WRITE_RATE = 1.0e9
"""Bytes a second that are written to a scratch file."""
TALL_PART = 4
"""A column of chunks that takes more than this part of the memory is too tall to be read at once."""


def with_scratch(
    make: Callable[[Sequence[Tensor]], Plan],
    tensors: Sequence[Tensor],
    rows: tuple[int, int],
    memory: int,
    folder: str | os.PathLike[str],
    log: str,
) -> tuple[Sequence[Tensor], Plan, Scratch | None]:
    """The tensors, some of them held in scratch files, and the plan: by the cheaper of both ways.

    make : a plan for tensors; folder : for scratch files; log : its path

    Raises MemoryLimitError where neither fits, and ScratchError as of `Scratch.check`.
    """
    scratch = Scratch(folder, 0, [log])
    scratch.check()
    held = [scratch.hold(tensor, rows) if _is_tall(tensor, rows, memory) else tensor for tensor in tensors]
    if held == list(tensors):
        return tensors, make(tensors), None
    try:
        plain = make(tensors)
    except MemoryLimitError:
        plain = None
    try:
        scratched = make(held)
    except MemoryLimitError:
        if plain is None:
            raise
        return tensors, plain, None
    scratch.capacity = _bytes(scratched, held)
    writing = sum(_writing_seconds(tensor, rows) for tensor in held if isinstance(tensor, ScratchTensor))
    scratched = replace(scratched, seconds=scratched.seconds + writing)
    if plain is not None and not _better(scratched, plain):
        return tensors, plain, None
    scratch.check()
    return held, scratched, scratch


def _is_tall(tensor: Tensor, rows: tuple[int, int], memory: int) -> bool:
    """Whether all rows of a chunk's columns, which have to be decoded whole, take much of the memory."""
    columns = math.prod(
        min(chunk, extent) for chunk, extent in zip(tensor.chunks[1:], tensor.shape, strict=True)
    )
    size = (rows[1] - rows[0]) * columns * max(tensor.entry_bytes, tensor.compute_dtype.itemsize)
    return not tensor.read_in_part and size > memory // TALL_PART


def _writing_seconds(tensor: ScratchTensor, rows: tuple[int, int]) -> float:
    written = float(rows[1] - rows[0]) * tensor.parameters * tensor.entry_bytes
    return reading_seconds(tensor.source, rows, whole_box(tensor)) + written / WRITE_RATE


def _better(scratched: Plan, plain: Plan) -> bool:
    if scratched.method == plain.method:
        return scratched.seconds < plain.seconds
    more_certain = RANK_METHODS.index(scratched.method) < RANK_METHODS.index(plain.method)
    return more_certain and scratched.is_affordable(plain)


def _bytes(plan: Plan, tensors: Sequence[Tensor]) -> int:
    reads = [
        [
            (tensor.source, segment.box)
            for segment in item.segments
            if isinstance(tensor := tensors[segment.tensor], ScratchTensor)
        ]
        for item in plan.ranges
    ]
    return bytes_needed(reads, plan.rows)
