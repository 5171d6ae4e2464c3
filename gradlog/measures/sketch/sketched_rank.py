"""Ranks from a random projection of increments: what it takes, and which tensors it projects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...engine.measure import PassContext
from ...engine.ranges import TILE_WIDTH
from ...engine.request import PassShape
from ...quick_dataclass import dataclass
from ..spectra.costs import sketch_seconds
from ..spectra.spectrum import NAME
from .sketching import Sketching

if TYPE_CHECKING:
    from .sketched_spectra import SketchedSpectra


@dataclass(frozen=True, kw_only=True)
class SketchedRank(Sketching):
    """Small tensors have exact spectra of their own."""

    name = NAME
    smaller = "--sketch-dim"
    otherwise = ", or --rank none for path lengths alone"
    epsilons: tuple[float, ...]

    def kept_bytes(self, shape: PassShape) -> int:
        """Of the sums (N, M), of Gram matrices of small tensors, and of the algebra at the end."""
        dim = self.choice.known_dim
        small = [tensor.parameters for tensor in shape.tensors if not self.choice.is_wide(tensor)]
        alone = sum(tensor.parameters > 0 for tensor in shape.tensors) == 1
        # Two units at work, one whose spectrum is sought, with a copy, and the total.
        arrays = (2 if alone else 5) + self.in_parts
        grams = min(sum(small), 2 * TILE_WIDTH) * max(small, default=0)
        side = min(shape.rows, dim)
        return 8 * (arrays * shape.rows * dim + grams + 8 * side * side)

    def seconds(self, sizes: Sequence[int], rows: int) -> float:
        """As of `Measure`."""
        made_of = [self.choice.parameters_of(index, size) for index, size in enumerate(sizes)]
        return sketch_seconds(made_of, rows, self.choice.known_dim)

    def start(self, context: PassContext) -> SketchedSpectra:
        """As of `Measure`."""
        from .sketched_spectra import SketchedSpectra  # deferred: few passes sketch

        return SketchedSpectra(self.choice, self.epsilons, context)
