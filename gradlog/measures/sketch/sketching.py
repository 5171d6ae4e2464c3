"""Measures that project tensors: which of them, to how many sums, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

from ...engine.measure import Measure
from ...engine.request import Request
from ...errors import MemoryLimitError
from ...logs.log import Tensor
from ...quick_dataclass import dataclass
from ...results.projection import CHOSEN_DIMENSIONS
from ...sizes import format_size
from ..spectra.costs import projection_seconds
from .sketch_choice import SketchChoice


@dataclass(frozen=True, kw_only=True)
class Sketching(Measure):
    """Projects each wide tensor after the other; small ones are read in groups.

    in_parts : a tensor that the part before began stays apart until the end
    smaller, otherwise : in messages, what says the dimension, and what else takes less memory
    """

    narrow_tiles = True
    smaller: ClassVar[str]
    otherwise: ClassVar[str] = ""
    choice: SketchChoice
    in_parts: bool = False

    def stands_apart(self, tensor: Tensor) -> bool:
        """As of `Measure`."""
        return self.choice.is_wide(tensor)

    def sized(self, request: Request, beside: int) -> Self:
        """With the largest M that leaves half of the memory to blocks, where none was asked for.

        In parts, too, it is the M of the whole.
        """
        if self.choice.dim is not None:
            return self
        for dim in CHOSEN_DIMENSIONS:
            chosen = replace(self, choice=replace(self.choice, dim=dim), in_parts=False)
            if beside + chosen.kept_bytes(request.shape(self.span, request.threads)) <= request.memory // 2:
                break
        return replace(chosen, in_parts=self.in_parts)

    def too_large(self, request: Request, fixed: int) -> MemoryLimitError:
        """As of `Measure`."""
        return MemoryLimitError(
            f"a sketch of {request.count} rows by {self.choice.known_dim} takes more than --memory "
            f"{format_size(request.memory)} holds: give --memory {request.enough(fixed)}, or a smaller "
            f"{self.smaller}, or fewer rows with --rows{self.otherwise}"
        )

    def seconds(self, sizes: Sequence[int], rows: int) -> float:
        """As of `Measure`."""
        made_of = [self.choice.parameters_of(index, size) for index, size in enumerate(sizes)]
        return projection_seconds(made_of, rows)
