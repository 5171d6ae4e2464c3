"""What unrelated gradients would show by chance."""

from __future__ import annotations


def share_by_chance(dimensions: int, parameters: int) -> float | None:
    """K / D: mean share of a white vector of D entries inside K directions that it has nothing to do with.

    It is also the mean squared cosine between such a subspace and another one. Of gradients within a run,
    and of gradients and increments of two runs; not of increments within a run: consecutive ones share a
    gradient, and are correlated by -1/2 even where gradients are white. None for D = 0.
    """
    return min(1.0, dimensions / parameters) if parameters else None
