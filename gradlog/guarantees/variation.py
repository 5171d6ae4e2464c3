"""Classical measures of how much a gradient sequence moves, for orientation.

gradual variation : sum_{t>=1} ||g_t - g_{t-1}||^2 (Chiang et al., COLT 2012), squared gradient units
maximal variation : max_t ||g_t - g_{t-1}||, gradient units
path variation : sum_{t>=1} ||g_t - g_{t-1}||, gradient units

Of a log of updates they are figures of its updates, in units of parameters. Beside them what they could be at
most where no row is longer than G = max ||g_t||: increments of 2 G.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..results.result import Analysis
from .guarantee import Guarantee, logged_rows, no_series

VARIATION = "variation"
FORMULAS = (
    ("variation[gradual]", "sum |g_t - g_t-1|^2", "4 G^2 (N - 1)"),
    ("variation[maximal]", "max |g_t - g_t-1|", "2 G"),
    ("variation[path]", "sum |g_t - g_t-1|", "2 G (N - 1)"),
)


def variation_curves(analysis: Analysis) -> dict[str, NDArray[np.float64]]:
    """(N,) each measure over the rows so far, by its name; none where the rows hold none."""
    squares = analysis.steps.path_length.get("one-step")
    if squares is None or squares.size < 2:
        return {}
    increments = np.append(0.0, squares[1:])
    norms = np.sqrt(increments)
    sums = (np.cumsum(increments), np.maximum.accumulate(norms), np.cumsum(norms))
    return {name: np.asarray(values) for (name, *_), values in zip(FORMULAS, sums, strict=True)}


def variation_rows(analysis: Analysis) -> list[Guarantee]:
    """The three measures."""
    steps, rows = analysis.steps, analysis.run.rows
    squares = steps.path_length.get("one-step")
    why = no_series(analysis)
    if not why and squares is None:
        why = "one-step is not among the predictors"
    elif not why and rows < 2:
        why = "one row: there are no increments"
    said = (logged_rows(analysis),)
    if why or squares is None:
        return [Guarantee(n, "", f, w, said, None, None, why) for n, f, w in FORMULAS]
    norms = np.sqrt(squares[1:])
    most = 2 * float(steps.grad_norm.max())
    values = (float(squares[1:].sum()), float(norms.max()), float(norms.sum()))
    worst = (most * most * (rows - 1), most, most * (rows - 1))
    return [
        Guarantee(name, "", formula, of_worst, said, value, limit)
        for (name, formula, of_worst), value, limit in zip(FORMULAS, values, worst, strict=True)
    ]
