"""How far ranks could be off with other minibatches: each of a few stretches of rows is left out in turn.

The spectrum without some increments is that of the Gram matrix without their rows and columns. Leaving out
each of B stretches, x_b = log of a figure without stretch b, gives the jackknife variance (B - 1) / B
sum (x_b - mean)^2 of the figure of all (Efron, Tibshirani 1993, chapter 11; of stretches, Kunsch 1989). All
of the B leave as many rows, so that it does not matter how a figure grows with rows. What neighbouring
stretches share is counted twice, where it is positive: norms that stay high or low for longer than a stretch.
Few stretches may carry the variance, which is known as from these alone: B - 1 degrees of freedom times
(sum d^2)^2 / (B sum d^4), at least 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..results.quantities import COUNTS
from ..results.spectral_counts import predictable_rank, spectral_counts
from .long_run_variance import LEAST_BINS, LEAST_FREEDOM

Doubles = NDArray[np.float64]

STRETCHES = 5
"""Their spectra take 2.6 times as long as that of all rows."""
MOST_ROWS = 1024
"""Of longer runs the spectra would take seconds."""
TELLS = (
    f"errors of ranks take an exact spectrum of {LEAST_BINS} to {MOST_ROWS:,} rows, and as many parameters"
)


def stretches(increments: int) -> list[tuple[int, int]]:
    """(first, last + 1) increment of each that is left out; none where nothing can be said of errors."""
    if not LEAST_BINS <= increments < MOST_ROWS:
        return []
    edges = [increments * number // STRETCHES for number in range(STRETCHES + 1)]
    return list(itertools.pairwise(edges))


def spectrum_errors(left_out: Sequence[Doubles], epsilons: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Standard error of the natural logarithm, and its degrees of freedom: of r* by epsilon, and of `COUNTS`.

    left_out : (n,) sigma_i^2 without each of the stretches, descending, in the order of rows
    The keys are repr(epsilon), and names of counts; none where one of the spectra has no energy.
    """
    if not left_out or not all(float(squares.sum()) > 0 for squares in left_out):
        return {}
    names = [*map(repr, epsilons), *COUNTS]
    values = np.log([_figures(squares, epsilons) for squares in left_out])
    count = len(left_out)
    off = values - values.mean(axis=0)
    squares = np.square(off).sum(axis=0)
    beside = np.maximum((off[1:] * off[:-1]).sum(axis=0), 0.0)
    variance = (count - 1) / count * (squares + 2 * beside)
    fourth = count * (off**4).sum(axis=0)
    carrying = np.divide(squares**2, fourth, out=np.ones_like(fourth), where=fourth > 0)
    freedom = np.maximum((count - 1) * carrying, LEAST_FREEDOM)
    return dict(zip(names, zip(np.sqrt(variance).tolist(), freedom.tolist(), strict=True), strict=True))


def _figures(squares: Doubles, epsilons: Sequence[float]) -> list[float]:
    counts = spectral_counts(squares)
    return [*(predictable_rank(squares, epsilon)[1] for epsilon in epsilons), *(counts[n] for n in COUNTS)]
