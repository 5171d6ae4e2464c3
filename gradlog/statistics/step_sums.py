"""Per-step sums of one scope as a matrix of bins by columns, and the figures that follow from their sums.

Columns: ||g_t||^2, then ||g_t - m_t||^2 of each of P predictors, then <g_t, m_t> of each. Figures, on scales
on which they are spread evenly: the energy, then of each predictor path length, kappa and scaled kappa.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from ..results.result import Analysis
from .retiming import Retiming

Doubles = NDArray[np.float64]

ENERGY, PREDICTORS = 0, 1
FIGURES = 1
RETIMED_KAPPA = 0.5
"""Where an average leaves less, gradients outlast its memory, and residuals vary less where they arise."""
PATH_LENGTH, KAPPA, SCALED_KAPPA = 0, 1, 2
"""Offsets of a predictor's three figures, behind FIGURES."""


@dataclass(frozen=True)
class StepSums:
    """One scope. first : (columns,), of row 0; bins : (n, columns), of what follows; columns are 1 + 2 P"""

    first: Doubles
    bins: Doubles

    @property
    def total(self) -> Doubles:
        """(columns,) sums over all rows."""
        return np.asarray(self.first + self.bins.sum(axis=0))


def total_sums(analysis: Analysis, specs: Sequence[str], edges: NDArray[np.int64]) -> StepSums:
    """Of the whole model, with bins that start at the rows `edges` (the first bin is row 0)."""
    steps = analysis.steps
    columns = [steps.grad_norm**2]
    columns += [steps.path_length[spec] for spec in specs]
    columns += [steps.product[spec] for spec in specs]
    return _binned(np.stack(columns, axis=1), edges)


def tensor_sums(analysis: Analysis, at: int, specs: Sequence[str], edges: NDArray[np.int64]) -> StepSums:
    """Of tensor number `at`; an edge within a bin that was kept moves to the start of that bin."""
    steps = analysis.tensor_steps
    assert steps is not None
    columns = [steps.energy[at]]
    columns += [steps.path_length[spec][at] for spec in specs]
    columns += [steps.product[spec][at] for spec in specs]
    if np.array_equal(edges, steps.edges):
        places = np.arange(edges.size)
    else:
        places = np.searchsorted(steps.edges, edges, side="right") - 1
    return _binned(np.stack(columns, axis=1), places)


def _binned(rows: Doubles, edges: NDArray[np.int64]) -> StepSums:
    """Sums of rows[edges[i] : edges[i + 1]]."""
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.add.reduceat(rows, edges[:-1], axis=0)])[1:]
    # reduceat gives the row itself where a bin is empty.
    sums[np.diff(edges) == 0] = 0.0
    return StepSums(sums[0], sums[1:])


def figures(sums: Doubles, predictors: int) -> Doubles:
    """(figures,) from sums (columns,): logarithms, and of scaled kappa arctanh |c|; NaN where there is none.

    With c = sum <g, m> / sqrt(sum ||m||^2 sum ||g||^2), scaled kappa is 1 - c^2, whose derivative vanishes
    where nothing can be predicted, c = 0; Fisher's arctanh c is spread alike everywhere.
    """
    energy = sums[ENERGY]
    residual, product = sums[PREDICTORS : PREDICTORS + predictors], sums[PREDICTORS + predictors :]
    found = np.empty(FIGURES + 3 * predictors)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found[0] = np.log(energy)
        found[FIGURES + PATH_LENGTH :: 3] = np.log(residual)
        found[FIGURES + KAPPA :: 3] = np.log(residual / energy)
        scaled = scaled_kappa(energy, residual, product)
        # arctanh c = log((1 + |c|) / sqrt(1 - c^2)), exact for 1 - c^2 near 0 too.
        correlation = np.sqrt(np.maximum(1 - scaled, 0.0))
        found[FIGURES + SCALED_KAPPA :: 3] = np.log1p(correlation) - np.log(scaled) / 2
    found[~np.isfinite(found)] = np.nan
    return found


def scaled_kappa(energy: Doubles, residual: Doubles, product: Doubles) -> Doubles:
    """min over c of ||g - c m||^2 / ||g||^2, from ||g||^2, ||g - m||^2 and <g, m>."""
    prediction = residual - energy + 2 * product
    excess = product - prediction
    close = residual / energy - excess / prediction * (excess / energy)
    far = 1.0 - product / prediction * (product / energy)
    return np.asarray(np.minimum(np.where(residual < energy, close, far), 1.0))


def worth_retiming(sums: StepSums, timings: Sequence[Retiming | None]) -> list[Retiming | None]:
    """Those of predictors that leave RETIMED_KAPPA of the energy or more, None for the others."""
    total, count = sums.total, len(timings)
    residuals = total[PREDICTORS : PREDICTORS + count]
    return [
        timing if residual >= RETIMED_KAPPA * total[ENERGY] else None
        for timing, residual in zip(timings, residuals, strict=True)
    ]


def influences(sums: StepSums, timings: Sequence[Retiming | None]) -> Doubles:
    """(figures, n): what each bin adds to each of `figures`, to first order.

    timings : of each predictor, by which kappas count predictions where they come from; path lengths, which
    are more of a kind where they arise, and predictors without timing count them where they are used
    """
    predictors = len(timings)
    total = sums.total
    energy, bins = total[ENERGY], sums.bins.T
    found = np.zeros((FIGURES + 3 * predictors, sums.bins.shape[0]))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = bins[ENERGY] / energy
        found[0] = share
        for p, timing in enumerate(timings):
            at, r, q = FIGURES + 3 * p, PREDICTORS + p, PREDICTORS + predictors + p
            residual, product = total[r], total[q]
            prediction = residual - energy + 2 * product
            squares = bins[r] - bins[ENERGY] + 2 * bins[q]
            if timing is not None:
                squares = timing.prediction_energy(bins[ENERGY], bins[q])
            found[at + PATH_LENGTH] = bins[r] / residual
            found[at + KAPPA] = (bins[ENERGY] - 2 * bins[q] + squares) / residual - share
            root = np.sqrt(prediction) * np.sqrt(energy)
            correlation = product / root
            moved = bins[q] / root - correlation * (squares / prediction + share) / 2
            sign = -1.0 if product < 0 else 1.0
            found[at + SCALED_KAPPA] = sign * moved / scaled_kappa(energy, residual, product)
    return np.nan_to_num(found, posinf=0.0, neginf=0.0)
