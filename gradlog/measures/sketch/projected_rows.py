"""Project rows of a block: which stretches of a tensor its columns are, and their sums."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.parameter_range import Box
from ...quick_dataclass import dataclass


@dataclass(frozen=True)
class Piece:
    """Columns first .. last - 1 of a block are coordinates index, index + 1, ... of their tensor."""

    first: int
    last: int
    index: int


def pieces(shape: Sequence[int], box: Box, first: int, last: int, offset: int) -> Iterator[Piece]:
    """Columns first .. last - 1 of a block as stretches of neighbouring coordinates, in C order.

    shape : of the tensor; box : its part in the block; offset : the column where the box begins
    """
    extents = [part.stop - part.start for part in box]
    # The last axes that the box holds whole, and the one before them, make one stretch.
    axis = len(shape)
    while axis > 0 and extents[axis - 1] == shape[axis - 1]:
        axis -= 1
    stretch = math.prod(extents[max(0, axis - 1) :])
    inner = math.prod(shape[axis:])
    begin = first - offset
    stop = last - offset
    while begin < stop:
        number, inside = divmod(begin, stretch)
        place = np.unravel_index(number, extents[: axis - 1]) if axis > 1 else ()
        corner = [int(at) + part.start for at, part in zip(place, box, strict=False)]
        if axis > 0:
            corner.append(box[axis - 1].start)
        index = 0
        for at, extent in zip(corner, shape, strict=False):
            index = index * extent + at
        end = min(stop, begin + stretch - inside)
        yield Piece(begin + offset, end + offset, index * inner + inside)
        begin = end


def project_rows(
    values: NDArray[np.floating[Any]],
    rows: tuple[int, int],
    stretches: Sequence[Piece],
    bases: tuple[np.uint64, np.uint64],
    groups: int,
    sums: NDArray[np.float64],
) -> None:
    """Add the unscaled projections of some columns of rows rows[0] .. rows[1] - 1 to `sums` (T, M)."""
    from ....kernels.projection import project  # deferred: a plan alone needs no kernel

    for piece in stretches:
        project(values, *rows, piece.first, piece.last, piece.index, *bases, groups, sums)
