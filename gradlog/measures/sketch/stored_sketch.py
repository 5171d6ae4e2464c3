"""The rows of a sketch as it is stored: sums of wide tensors, and small tensors as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...engine.measure import PassContext
from ...engine.ranges import TILE_WIDTH
from ...engine.request import PassShape
from ...quick_dataclass import dataclass
from .sketching import Sketching

if TYPE_CHECKING:
    from .sketched_rows import SketchedRows


@dataclass(frozen=True, kw_only=True)
class StoredSketch(Sketching):
    """doubles : numbers of tensors whose rows are float64, those of others being float32"""

    name = "stored_sketch"
    smaller = "dimension"
    doubles: frozenset[int]

    def kept_bytes(self, shape: PassShape) -> int:
        """Of the sums (N, M), two units at work and one that is written, and of copies of small tensors.

        What is kept where there is no sink, as in parts, is not known before they are cut.
        """
        small = [tensor.parameters for tensor in shape.tensors if not self.choice.is_wide(tensor)]
        copies = 2 * min(sum(small), 2 * TILE_WIDTH) * shape.rows_at_once
        return 8 * ((3 + self.in_parts) * shape.rows * self.choice.known_dim + copies)

    def start(self, context: PassContext) -> SketchedRows:
        """As of `Measure`."""
        from .sketched_rows import SketchedRows  # deferred: few passes sketch

        return SketchedRows(self.choice, self.doubles, context)
