"""Guarantees at every prefix of n = 1 .. N rows: when hints start to pay, and what each bound was by then.

Each formula is that of its row in `regret`, `stationarity` and `variation`, over rows 0 .. n - 1. Hints are
those that leave least over all rows; sums run on, largest values are of the rows so far.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..results.result import Analysis
from .guarantee import Anytime, listed_and_found
from .regret import largest_residuals
from .stationarity import stationarity_curves
from .variation import variation_curves

Doubles = NDArray[np.float64]


def anytime(
    analysis: Analysis, radius: float, smoothness: float | None, lr: float | None, floor: float
) -> Anytime:
    """The bounds of listed and of found predictors, and the other guarantees. Arguments as of `bounds`."""
    steps = analysis.steps
    if not steps.grad_norm.size:
        return Anytime({}, None, None)
    residuals = {"zero": steps.grad_norm**2, **listed_and_found(analysis)}
    path_lengths = {spec: np.cumsum(values) for spec, values in residuals.items()}
    hint = min(path_lengths, key=lambda spec: float(path_lengths[spec][-1]))
    pays = None
    if hint != "zero":
        behind = np.flatnonzero(path_lengths[hint] >= path_lengths["zero"])
        pays = int(behind[-1]) + 1 if behind.size else 0
    return Anytime(
        {spec: radius * np.sqrt(2 * values) for spec, values in path_lengths.items()},
        None if hint == "zero" else hint,
        pays,
        {
            "regret[aggregate]": _aggregated(analysis, path_lengths, radius),
            **stationarity_curves(analysis, smoothness, lr, floor),
            **variation_curves(analysis),
        },
    )


def _aggregated(analysis: Analysis, path_lengths: dict[str, Doubles], radius: float) -> Doubles:
    listed = [item.predictor for item in analysis.total.predictors]
    least = np.minimum.reduce([path_lengths[spec] for spec in listed if spec in path_lengths])
    price = 2 * largest_residuals(analysis) * math.log(len(listed))
    return np.asarray(radius * np.sqrt(2 * (least + price)))
