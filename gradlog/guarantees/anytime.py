"""Guarantees at every prefix of n = 1 .. N rows: when hints start to pay, and what each bound was by then.

Each formula is that of its row in `regret`, `stationarity` and `variation`, over rows 0 .. n - 1. Hints are
those of `hints`; sums run on, largest values are of the rows so far.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..results.result import Analysis
from .guarantee import Anytime, listed_and_found, no_series
from .hints import Hint
from .regret import largest_residuals
from .stationarity import stationarity_curves
from .variation import variation_curves

Doubles = NDArray[np.float64]


def anytime(
    analysis: Analysis,
    hint: Hint | None,
    radius: float,
    smoothness: float | None,
    lr: float | None,
    floor: float,
) -> Anytime:
    """The bounds of listed and of found predictors, and the other guarantees. Arguments as of `bounds`.

    hint : of `bounds_hint`

    NaN where a bound is beyond float64.
    """
    steps = analysis.steps
    if no_series(analysis):
        return Anytime({}, None, None, None)
    residuals = {"zero": steps.grad_norm**2, **listed_and_found(analysis)}
    path_lengths = {spec: np.cumsum(values) for spec, values in residuals.items()}
    followed, predicts = (None, None) if hint is None else (hint.predictor, hint.predicts)
    if followed is not None and path_lengths[followed][-1] >= path_lengths["zero"][-1]:
        followed = None
    measured = {name: _within_float64(values) for name, values in variation_curves(analysis).items()}
    if analysis.run.kind.of_updates:  # of which no bound speaks; what predicts them is known all the same
        return Anytime({}, followed, predicts, None, measured)
    pays = None
    if followed is not None and predicts:
        behind = np.flatnonzero(path_lengths[followed] >= path_lengths["zero"])
        pays = int(behind[-1]) + 1 if behind.size else 1  # row 0 is foretold by nobody
    return Anytime(
        {spec: _within_float64(radius * np.sqrt(2 * values)) for spec, values in path_lengths.items()},
        followed,
        predicts,
        pays,
        {
            "regret[aggregate]": _within_float64(_aggregated(analysis, path_lengths, radius)),
            **{
                name: _within_float64(values)
                for name, values in stationarity_curves(analysis, hint, smoothness, lr, floor).items()
            },
            **measured,
        },
    )


def _within_float64(values: Doubles) -> Doubles:
    return np.where(np.isfinite(values), values, np.nan)


def _aggregated(analysis: Analysis, path_lengths: dict[str, Doubles], radius: float) -> Doubles:
    listed = [item.predictor for item in analysis.total.predictors]
    least = np.minimum.reduce([path_lengths[spec] for spec in listed if spec in path_lengths])
    price = 2 * largest_residuals(analysis) * math.log(len(listed))
    return np.asarray(radius * np.sqrt(2 * (least + price)))
