"""How increments are projected, and of which tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ...logs.log import Tensor
from ...quick_dataclass import dataclass
from ...results.projection import CHOSEN_DIMENSIONS, KIND, Projection

MOST_SMALL = 2048
"""Parameters of the largest tensor that is not projected, whatever M is: half a tile, which is never cut."""


@dataclass(frozen=True)
class SketchChoice:
    """dim : M of the projection, None for one that memory allows; seed, kind : of it

    stored : tensors that are sketches by it already, with the number of parameters that each was made of
    """

    dim: int | None = None
    seed: int = 0
    stored: Mapping[int, int] = field(default_factory=dict)
    kind: str = KIND

    @property
    def projection(self) -> Projection:
        """How increments are projected."""
        return Projection(self.known_dim, self.seed, kind=self.kind)

    @property
    def known_dim(self) -> int:
        """M, the largest that is chosen where none is known yet."""
        return self.dim or CHOSEN_DIMENSIONS[0]

    def is_wide(self, tensor: Tensor) -> bool:
        """Whether a tensor is projected by itself; smaller ones keep their exact spectra."""
        if self.stored:
            return tensor.made_of is not None
        return is_wide(tensor.parameters, self.known_dim)

    def parameters_of(self, index: int, parameters: int) -> int:
        """Number of parameters of tensor `index`, before it was sketched."""
        return self.stored.get(index, parameters)


def is_wide(parameters: int, dim: int) -> bool:
    """Whether a tensor of so many parameters is projected to `dim` sums."""
    return parameters > min(dim, MOST_SMALL)
