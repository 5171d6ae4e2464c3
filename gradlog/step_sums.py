"""Per-step sums of one scope as a matrix of bins by columns, and the figures that follow from their sums.

Columns: ||g_t||^2, then ||g_t - m_t||^2 of each of P predictors, then <g_t, m_t> of each. Figures, on a
log scale: the energy, then of each predictor path length, kappa and scaled kappa.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .result import Analysis

Doubles = NDArray[np.float64]

ENERGY, PREDICTORS = 0, 1
FIGURES = 1
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


def figure_columns(predictors: int) -> NDArray[np.bool_]:
    """(figures, columns): which sums a figure is made of."""
    needs = np.zeros((FIGURES + 3 * predictors, PREDICTORS + 2 * predictors), dtype=bool)
    needs[0, ENERGY] = True
    for p in range(predictors):
        at = FIGURES + 3 * p
        needs[at : at + 3, PREDICTORS + p] = True
        needs[at + KAPPA : at + 3, ENERGY] = True
        needs[at + SCALED_KAPPA, PREDICTORS + predictors + p] = True
    return needs


def log_figures(sums: Doubles, wanted: NDArray[np.int64]) -> Doubles:
    """(..., figures wanted) from sums (..., columns): natural logarithms, NaN where there is none."""
    predictors = (sums.shape[-1] - PREDICTORS) // 2
    energy = sums[..., ENERGY]
    found = np.empty((*sums.shape[:-1], wanted.size))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for place, figure in enumerate(wanted):
            if figure < FIGURES:
                found[..., place] = np.log(energy)
                continue
            p, kind = divmod(int(figure) - FIGURES, 3)
            residual = sums[..., PREDICTORS + p]
            if kind == PATH_LENGTH:
                value = residual
            elif kind == KAPPA:
                value = residual / energy
            else:
                value = scaled_kappa(energy, residual, sums[..., PREDICTORS + predictors + p])
            found[..., place] = np.log(value)
    found[~np.isfinite(found)] = np.nan
    return found


def scaled_kappa(energy: Doubles, residual: Doubles, product: Doubles) -> Doubles:
    """min over c of ||g - c m||^2 / ||g||^2, from ||g||^2, ||g - m||^2 and <g, m>."""
    prediction = residual - energy + 2 * product
    excess = product - prediction
    close = residual / energy - excess / prediction * (excess / energy)
    far = 1.0 - product / prediction * (product / energy)
    return np.asarray(np.minimum(np.where(residual < energy, close, far), 1.0))


def log_influence(sums: StepSums) -> Doubles:
    """(figures, n): what each bin adds to the logarithm of each figure, to first order."""
    total = sums.total
    predictors = (total.size - PREDICTORS) // 2
    slope = np.zeros((FIGURES + 3 * predictors, total.size))
    energy = total[ENERGY]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slope[0, ENERGY] = 1 / energy
        for p in range(predictors):
            at, r, q = FIGURES + 3 * p, PREDICTORS + p, PREDICTORS + predictors + p
            residual, product = total[r], total[q]
            slope[at, r] = 1 / residual
            slope[at + KAPPA, [r, ENERGY]] = 1 / residual, -1 / energy
            prediction = residual - energy + 2 * product
            value = scaled_kappa(energy, residual, product)
            by_product = -2 * product / prediction / energy / value
            by_prediction = -by_product * product / prediction / 2
            by_energy = -by_product * product / energy / 2
            slope[at + SCALED_KAPPA, [r, q, ENERGY]] = (
                by_prediction, by_product + 2 * by_prediction, by_energy - by_prediction,
            )  # fmt: skip
    slope[~np.isfinite(slope)] = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        influence = slope @ sums.bins.T
    return np.nan_to_num(influence, posinf=0.0, neginf=0.0)
