"""Projections of tiles, added up for each wide tensor until all of its strips are in."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...engine.measure import Accumulator, PassContext
from .sketch_choice import SketchChoice
from .sketcher import Sketcher, Turn

Doubles = NDArray[np.float64]
_Piece = TypeVar("_Piece")


class ProjectedSums(Accumulator[_Piece]):
    """What accumulators of projections have in common: the sums of a pass, or of the states of parts."""

    def __init__(self, choice: SketchChoice, context: PassContext) -> None:
        self._choice = choice
        self._context = context
        self._sketcher = Sketcher(context.tensors, context.ranges, choice, context.rows, context.workers)
        self._turns: dict[tuple[tuple[int, int], int], Turn] = {}
        self._strips = context.ranges.strips
        self._missing = dict(context.strips)
        self._open: dict[int, Doubles] = {}

    def _add(self, tensor: int, strips: int, sums: Doubles) -> None:
        """Add the sums (N, M) over some strips of a wide tensor."""
        if tensor in self._open:
            self._open[tensor] += sums
        else:
            self._open[tensor] = sums
        self._missing[tensor] -= strips
        if not self._missing[tensor]:
            self._complete(tensor, self._open.pop(tensor))

    @abstractmethod
    def _complete(self, tensor: int, sums: Doubles) -> None:
        """The sums of a wide tensor are whole."""
