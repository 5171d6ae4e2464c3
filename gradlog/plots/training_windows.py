"""Series over training in windows: those of an analysis, or windows made of its sums over steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from ..results.reasons import ALL_ZERO, NO_SERIES
from ..results.result import Analysis
from ..results.windows import window_rows
from ..statistics.noise_reference import window_references

Doubles = NDArray[np.float64]

MOST_WINDOWS = 40
LEAST_ROWS = 5
"""Of a window, where nobody says how many there are."""
NO_PREDICTORS = "no predictor but zero was measured"
NO_WINDOWS = "the analysis holds no windows of training: make it with windows, or give the log itself"


def usual_windows(rows: int, least: int = LEAST_ROWS) -> int:
    """So many windows are shown of a run of N rows where nobody says how many. least : rows of one"""
    return max(1, min(MOST_WINDOWS, rows // least))


def shown_windows(analysis: Analysis) -> NDArray[np.int64]:
    """(W, 2), first and last + 1 of the rows of each window that series of this analysis are shown in."""
    if analysis.windows is not None:
        return analysis.windows.rows
    return window_rows(usual_windows(analysis.run.rows), analysis.run.rows)


@dataclass(frozen=True)
class KappaCurves:
    """kappa, reference : of each predictor (W,) float64, of the whole model and of noise; NaN for unknown"""

    rows: NDArray[np.int64]
    kappa: Mapping[str, Doubles]
    reference: Mapping[str, Doubles]


def kappa_curves(analysis: Analysis) -> KappaCurves:
    """Kappa of the whole model in windows of training. Nothing, where `lacks_kappa` says why."""
    rows = shown_windows(analysis)
    if analysis.windows is not None:
        total = analysis.windows.total
        return KappaCurves(rows, total.kappa, total.reference)
    steps = analysis.steps
    squares = np.square(steps.grad_norm)
    energy = sums(squares, rows)
    kappa, reference = {}, {}
    for spec, each in steps.kappa.items():
        if spec == "zero":
            continue
        left = steps.path_length.get(spec, np.nan_to_num(each * squares))
        kappa[spec] = _over(sums(left, rows), energy)
        reference[spec] = window_references(spec, rows, squares[None])[0]
    return KappaCurves(rows, kappa, reference)


def lacks_kappa(analysis: Analysis) -> str:
    """Why there are no curves; "" where there are."""
    if analysis.total.energy == 0:
        return ALL_ZERO
    if analysis.windows is not None:
        return "" if analysis.windows.total.kappa else NO_PREDICTORS
    if not analysis.steps.grad_norm.size:
        return NO_SERIES
    return "" if analysis.steps.kappa.keys() - {"zero"} else NO_PREDICTORS


def sums(series: Doubles, rows: NDArray[np.int64]) -> Doubles:
    """(W,) sums of a series (N,) over the rows of each window."""
    return np.array([series[first:last].sum() for first, last in rows.tolist()], dtype=np.float64)


def means(series: Doubles, rows: NDArray[np.int64]) -> Doubles:
    """(W,) means of the finite values of a series (N,) in each window; NaN where there are none."""
    known = np.isfinite(series)
    return _over(sums(np.where(known, series, 0.0), rows), sums(known.astype(np.float64), rows))


def root_mean_squares(series: Doubles, rows: NDArray[np.int64]) -> Doubles:
    """(W,) of a series (N,) in each window."""
    return np.sqrt(means(np.square(series), rows))


def _over(above: Doubles, below: Doubles) -> Doubles:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
