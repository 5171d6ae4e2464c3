"""Count a prediction's energy at the steps that it comes from, not at those that it is used for.

An average with a long memory adds to ||m_t||^2 over hundreds of steps what one gradient brought in. Summed at
step t, that is correlation over hundreds of rows, which no estimate of a variance sees whole; summed where it
came in, it is none. For m_t = a_t s_t, s_{t+1} = B s_t + (1 - B) g_t,

    ||s_{t+1}||^2 = B^2 ||s_t||^2 + f_t,    f_t = 2 B (1 - B) <g_t, s_t> + (1 - B)^2 ||g_t||^2

so that sum_t ||m_t||^2 = sum_u C_u f_u exactly, with C_u = sum_{t>u} a_t^2 B^{2 (t - 1 - u)}. All of it
follows from sums over steps that are kept anyway.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..predictors import Average, parse_predictor
from ..quick_dataclass import dataclass

Doubles = NDArray[np.float64]

LONG_MEMORY = 0.8
"""Decay from which on an average is retimed. What a shorter one gives back within a few rows, the window of a
variance sees by itself, and small residuals vary less where they arise."""


@dataclass(frozen=True)
class Retiming:
    """Of one predictor, over n bins of rows.

    rows : (n,) of each bin; energy : factor of ||g_t||^2 in f_t; product : (n,), factor of <g_t, m_t>
    steady : C_u far from both ends; ends : (n,), C_u - steady, mean of each bin
    """

    rows: Doubles
    energy: float
    product: Doubles
    steady: float
    ends: Doubles

    def prediction_energy(self, energy: Doubles, product: Doubles) -> Doubles:
        """(n,) what each bin adds to sum ||m_t||^2, from its sums of ||g_t||^2 and <g_t, m_t>.

        What is missing at the ends is missing in every run: only its deviation from the mean counts.
        """
        brought = self.energy * energy + self.product * product
        mean = brought.sum() / self.rows.sum()
        return np.asarray(self.steady * brought + self.ends * (brought - mean * self.rows))


def retiming(spec: str, edges: NDArray[np.int64]) -> Retiming | None:
    """For one exponential average of decay LONG_MEMORY and more; None for other predictors.

    edges : as of `bin_edges`, whose first bin, row 0, is left out
    """
    rows = int(edges[-1])
    if rows < 3:
        return None
    weights = parse_predictor(spec).weights(np.arange(1, rows))
    if len(weights) != 1:
        return None
    ((vector, weight),) = weights.items()
    factors = np.broadcast_to(np.asarray(weight, dtype=np.float64), rows - 1)
    if not isinstance(vector, Average) or vector.decay < LONG_MEMORY or not factors.all():
        return None
    decay = vector.decay
    steady = float(factors[-1] ** 2 / (1 - decay * decay))
    widths = np.diff(edges[1:])
    starts = edges[1:-1] - 1

    def means(values: Doubles) -> Doubles:
        return np.asarray(np.add.reduceat(values, starts) / widths)

    return Retiming(
        rows=widths.astype(np.float64),
        energy=(1 - decay) ** 2,
        product=means(2 * decay * (1 - decay) / factors),
        steady=steady,
        ends=means(_carried(factors, decay) - steady),
    )


def _carried(factors: Doubles, decay: float) -> Doubles:
    """C_u for u = 1 .. N - 1, from a_t for t = 1 .. N - 1."""
    carried = np.zeros(factors.size)
    later = 0.0
    for u, square in zip(range(factors.size - 2, -1, -1), np.square(factors[:0:-1]).tolist(), strict=True):
        later = square + decay * decay * later
        carried[u] = later
    return carried
