"""Certified ranks: what bounds on a spectrum's leading sums say of r*."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.two_sided import TwoSided

TIE = 1e-12
"""Share of the energy by which a cumulative sum may miss its threshold and still meet it: rounding."""


@dataclass(frozen=True)
class Envelope:
    """Bounds on C_r = sigma_1^2 + ... + sigma_r^2 for r = 1 .. k, and on what comes after.

    lower, upper : (k,) float64, lower <= C_r <= upper
    further : each sigma_i^2 past the k-th is at most this
    energy : C_n, n being `dimension`, the largest rank that the matrix can have
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    further: float
    energy: float
    dimension: int

    @classmethod
    def of(cls, state: TwoSided, energy: float, dimension: int) -> Envelope:
        """From the state of the two-sided SVD and the energy ||H||_F^2, known apart from it."""
        count = min(state.size, dimension)
        ranks = np.arange(1, count + 1)
        low = np.cumsum(state.lower_eigenvalues()[:count]) - ranks * state.slack
        high = np.cumsum(state.upper_eigenvalues()[:count]) + ranks * (state.shift + state.slack)
        low = np.minimum(low, energy)
        # What the lower bound leaves out can belong to the leading directions, but not more than once.
        left = energy - float(low[-1]) if count else energy
        high = np.minimum(np.minimum(high, low + left), energy)
        return cls(low, high, state.shift + state.slack, energy, dimension)

    def bounds(self, epsilon: float) -> tuple[int, int]:
        """(least, greatest) r* that the bounds allow: certain if they are."""
        if self.energy <= 0.0:
            return 0, 0
        threshold = (1.0 - epsilon - TIE) * self.energy
        return self._least(threshold), self._greatest(threshold)

    def _least(self, threshold: float) -> int:
        reached = np.flatnonzero(self.upper >= threshold)
        if reached.size:
            return int(reached[0]) + 1
        held = float(self.upper[-1]) if self.upper.size else 0.0
        if self.further <= 0.0:
            return min(self.upper.size + 1, self.dimension)
        return min(self.upper.size + max(1, math.ceil((threshold - held) / self.further)), self.dimension)

    def _greatest(self, threshold: float) -> int:
        reached = np.flatnonzero(self.lower >= threshold)
        if reached.size:
            return int(reached[0]) + 1
        # C_r is concave in r and ends at C_n = energy: it lies above the chord from the last bound.
        count = self.lower.size
        held = max(0.0, float(self.lower[-1])) if count else 0.0
        rest = (threshold - held) / (self.energy - held)
        return min(count + math.ceil(rest * (self.dimension - count)), self.dimension)
