"""Ranks from a sketch: intervals of r* that hold with a stated confidence, and refusal where there is none.

R_k = sum_{i>k} sigma_i^2 is what the best rank-k predictor leaves; r* is the least k with R_k <= eps ||H||^2.
Both bounds are one-sided tests of R_k at a single k, so many k and one interval need no correction:

lower : the sketch's own rank-k residual is at most ||(I - U_k U_k^T) Y||^2, U_k the true one; its mean is R_k
upper : ||(I - W_k W_k^T) Y2||^2 with W_k from an independent half Y1 has a mean of at least R_k

Either has a variance of at most 2/M (for a half 4/M) times the sum of the sigma_i^4 of what it has left.
docs/sketch.md has the derivation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.cross_fit import CrossFit
from ...quick_dataclass import dataclass
from ...results.projection import Projection
from ...results.result import RankResult, SpectrumResult
from ...results.spectral_counts import TIE, effective_rank
from .sketch_limits import SMALL_SHARE

CONFIDENCE = 0.95
"""Of an interval of r*: each end fails in at most (1 - CONFIDENCE) / 2 of all seeds."""
_DEVIATIONS = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
SURE_SHARE = 0.1
"""Relative gap between two estimates above which their mean is not given."""
TAIL_SHARE = 0.01
"""Share of the energy outside the directions known, above which the effective rank is not given."""


@dataclass(frozen=True)
class SketchedSpectrum:
    """The spectrum of one scope's increments, from their sketch.

    increments : N - 1; parameters : D of the scope
    energy_known : ||H||^2 is exact, and not itself an estimate of the sketch
    """

    fit: CrossFit
    projection: Projection
    epsilons: Sequence[float]
    increments: int
    parameters: int
    energy_known: bool = True

    @property
    def dimension(self) -> int:
        """The largest rank that the increments can have."""
        return min(self.increments, self.parameters)

    def result(self, energy: float) -> SpectrumResult:
        """Ranks with their intervals. energy : ||H||_F^2 as the fused pass summed it."""
        return SpectrumResult(
            method="sketch",
            confidence=CONFIDENCE,
            energy=energy,
            rank=tuple(self._rank(epsilon, energy) for epsilon in self.epsilons),
            **self._dimensions(energy),
            projection=self.projection,
        )

    def _share(self, energy: float) -> float:
        """The energy in the fit's units."""
        return math.ldexp(energy, -2 * self.fit.exponent) if self.energy_known else self.fit.energy

    def _at(self, values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        return np.pad(values[:count], (0, max(0, count - values.size)), "edge")

    def _own_left(self) -> NDArray[np.float64]:
        """(n + 1,) what the sketch's own first 0, 1, ... directions leave of it."""
        squares = self.fit.squares
        return np.concatenate([np.cumsum(squares[::-1])[::-1], [0.0]])

    def _rank(self, epsilon: float, energy: float) -> RankResult:
        if energy <= 0.0 or self.fit.energy <= 0.0:
            return RankResult(epsilon, 0, 0, 0, 0.0)
        fit, dim = self.fit, self.projection.dim
        share = self._share(energy)
        threshold = (epsilon + TIE) * share
        quartic = fit.left_quartic
        if not self.energy_known:  # the threshold is estimated by the same sketch
            quartic = quartic - 2 * epsilon * fit.left_cross + epsilon**2 * fit.left_quartic[0]
        deviation = _DEVIATIONS * np.sqrt(np.maximum(quartic, 0.0) * 2 / dim)
        own = self._own_left()
        lower = int(np.argmax(own - self._at(deviation, own.size) <= threshold))
        lower = min(lower, self.dimension)
        # Falling in k, as what is left is: then only k = r* - 1 can fail.
        deviation = np.maximum.accumulate(deviation[::-1])[::-1] * math.sqrt(2.0)
        reached = np.flatnonzero(np.minimum.accumulate(fit.left) + deviation <= threshold)
        upper = min(int(reached[0]) if reached.size else self.dimension, self.dimension)
        if upper > dim // SMALL_SHARE:
            return RankResult(epsilon, None, lower, self.dimension, None)
        upper = max(upper, lower)
        count = max(own.size, fit.left.size)
        middle = (self._at(own, count) + self._at(np.minimum.accumulate(fit.left), count)) / 2
        rank = min(max(int(np.argmax(middle <= threshold)), lower), upper)
        left = math.ldexp(float(middle[min(rank, count - 1)]), 2 * fit.exponent)
        return RankResult(epsilon, rank, lower, upper, left)

    def _dimensions(self, energy: float) -> dict[str, Any]:
        fit = self.fit
        share = self._share(energy)
        known = min(self.dimension, self.projection.dim // SMALL_SHARE, fit.left.size - 1)
        if energy <= 0.0 or fit.energy <= 0.0 or known == 0:
            return _figures(None, None, None, np.zeros(0))
        crossed = -np.diff(np.minimum.accumulate(fit.left))[:known]
        squares = np.sort((self._at(fit.squares, known) + crossed) / 2)[::-1]
        stable = effective = None
        if abs(fit.squares[0] - crossed[0]) <= SURE_SHARE * fit.squares[0]:
            stable = min(max(1.0, share / float(squares[0])), float(self.dimension))
        rest = max(0.0, 1.0 - float(squares.sum()) / share)
        others = self.dimension - known
        if rest <= TAIL_SHARE or not others:
            # The rest is taken as spread evenly over the directions that are left.
            spectrum = np.append(np.maximum(squares, 0.0), rest * share / others if others else 0.0)
            times = np.append(np.ones(known), others)
            effective = min(max(1.0, float(effective_rank(spectrum, times))), float(self.dimension))
        ratio = min(max(share * share / fit.product, 1.0), self.dimension) if fit.product > 0 else None
        return _figures(stable, effective, ratio, np.ldexp(np.sqrt(np.maximum(squares, 0.0)), fit.exponent))


def _figures(
    stable: float | None, effective: float | None, ratio: float | None, values: NDArray[np.float64]
) -> dict[str, Any]:
    return {
        "stable_rank": stable,
        "effective_rank": effective,
        "participation_ratio": ratio,
        "singular_values": values,
    }
