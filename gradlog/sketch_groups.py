"""Groups of a sketch's sums: cut apart before the pass, and what their scatter says of errors.

Each of the s groups is an independent sketch: leaving one out in turn gives jackknife standard errors of sums
and of their ratios (Efron, Tibshirani 1993, chapter 11), for heavy coordinates too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .log import Tensor
from .projection import Projection, pieces
from .ranges import ParameterRange, Part

Doubles = NDArray[np.float64]


def by_groups(
    item: ParameterRange, tensors: Sequence[Tensor], stored: Mapping[int, int], projection: Projection
) -> ParameterRange:
    """The range with the parts of stored sketches cut at the borders of groups."""

    def cut(part: Part) -> Iterator[Part]:
        if part.tensor not in stored:
            yield part
            return
        segment, offset = item.segment_of(part)
        for piece in pieces(tensors[part.tensor].shape, segment.box, part.first, part.last, offset):
            first, index = piece.first, piece.index
            while first < piece.last:
                group = index // projection.width
                last = min(piece.last, first + (group + 1) * projection.width - index)
                yield Part(part.tensor, first, last, group)
                index += last - first
                first = last

    tiles = tuple(tuple(small for part in tile for small in cut(part)) for tile in item.tiles)
    return replace(item, tiles=tiles)


def standard_errors(totals: Doubles, groups: Doubles, figures: Callable[[Doubles], Doubles]) -> Doubles:
    """Jackknife standard errors of `figures(totals)`; NaN where one is.

    totals : (columns,) sums; groups : (s, columns), each group's share of what is estimated of them
    """
    count = len(groups)
    estimated = groups.sum(axis=0)
    left_out = totals - estimated + (estimated - groups) * (count / (count - 1))
    values = np.stack([figures(row) for row in left_out])
    spread = values - values.mean(axis=0)
    errors: Doubles = np.sqrt((count - 1) / count * np.sum(spread**2, axis=0))
    return errors
