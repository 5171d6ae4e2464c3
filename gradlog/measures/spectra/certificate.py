"""Certified ranks: what bounds on a spectrum's leading sums say of r*."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ....kernels.two_sided import TwoSided
from ...quick_dataclass import dataclass
from ...results.spectral_counts import COUNTS, TIE, spectral_counts

BLUR = 1.25
"""Distance of two bounds, in allowances for rounding, below which it is these that matter."""


@dataclass(frozen=True)
class Envelope:
    """Bounds on C_r = sigma_1^2 + ... + sigma_r^2 for r = 1 .. k, and on what comes after.

    lower, upper : (k,) float64, lower <= C_r <= upper
    further : each sigma_i^2 past the k-th is at most this
    energy : C_n, n being `dimension`, the largest rank that the matrix can have
    rounding : allowances that `lower` and `upper` hold between them
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    further: float
    energy: float
    dimension: int
    rounding: float = 0.0

    @classmethod
    def of(cls, state: TwoSided, energy: float, dimension: int) -> Envelope:
        """From the state of the two-sided SVD and the energy ||H||_F^2, known apart from it."""
        count = min(state.size, dimension)
        held, below = state.lower_sums()
        low = held[:count] - below
        sums, above = state.upper_sums()
        high = sums[:count] + above
        if count:
            # What the lower bound leaves out can belong to the leading directions, but not more than once.
            high = np.minimum(high, low + (energy - float(low[-1])) + 2.0 * below)
        return cls(low, high, state.shift + state.above, energy, dimension, below + above)

    def bounds(self, epsilon: float) -> tuple[int, int]:
        """(least, greatest) r* that the bounds allow: certain if they are."""
        if self.energy <= 0.0:
            return 0, 0
        wanted = (1.0 - epsilon) * self.energy
        return self._least(wanted - TIE * self.energy), self._greatest(wanted + TIE * self.energy)

    def blurred(self, epsilon: float) -> bool:
        """Whether it is rounding that keeps r*(epsilon) open: a larger basis would not close it."""
        lower, _ = self.bounds(epsilon)
        if epsilon * self.energy <= self.rounding:
            return True
        if not 0 < lower <= self.lower.size:
            return False
        return float(self.upper[lower - 1] - self.lower[lower - 1]) <= BLUR * self.rounding

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
        held = min(max(0.0, float(self.lower[-1])), (1.0 - TIE) * self.energy) if count else 0.0
        rest = (threshold - held) / (self.energy - held)
        return min(count + math.ceil(rest * (self.dimension - count)), self.dimension)

    def count_bounds(self) -> dict[str, tuple[float, float]]:
        """Certain bounds on stable rank, effective rank and participation ratio; the energy is not 0.

        All three fall when the spectrum is concentrated (they are Schur-concave): they are least where the
        leading sums are as large as they can be, and greatest where these are as small (Marshall, Olkin and
        Arnold, "Inequalities: Theory of Majorization", 2011, chapter 3).
        """
        least, greatest = self._concentrated(), self._spread()
        lowest, highest = spectral_counts(*least), spectral_counts(*greatest)
        found = {}
        for name in COUNTS:
            low = min(max(1.0, lowest[name] * (1.0 - TIE)), self.dimension)
            found[name] = low, min(max(low, highest[name] * (1.0 + TIE)), float(self.dimension))
        return found

    def _concentrated(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(squares, how often each stands there) of the spectrum whose leading sums are the upper bounds."""
        sums = np.minimum(self.upper, self.energy)
        values = np.diff(sums, prepend=0.0)
        times = np.ones(values.size)
        rest = self.energy - float(sums[-1]) if values.size else self.energy
        if rest > 0.0:
            each = min(self.further, rest) if self.further > 0.0 else rest
            whole = math.floor(rest / each)
            values = np.append(values, [each, rest - whole * each])
            times = np.append(times, [float(whole), 1.0])
        return values, times

    def _spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same of the flattest spectrum whose leading sums are no less than the lower bounds."""
        ranks, sums = [0], [0.0]
        points = [*enumerate(np.minimum(self.lower, self.energy).tolist(), 1), (self.dimension, self.energy)]
        for rank, total in points:
            if rank == ranks[-1]:
                rank, total = ranks.pop(), max(sums.pop(), total)
            while len(ranks) > 1 and (sums[-1] - sums[-2]) * (rank - ranks[-1]) <= (total - sums[-1]) * (
                ranks[-1] - ranks[-2]
            ):
                ranks.pop()
                sums.pop()
            ranks.append(rank)
            sums.append(total)
        times = np.diff(np.array(ranks, dtype=np.float64))
        return np.diff(np.array(sums)) / times, times
