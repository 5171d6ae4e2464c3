"""What the search for the best predictors found: frozen dataclasses, as of `result.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass

FAMILIES = ("ema", "mean", "mixture", "lags")
"""Classes that are searched, simplest first: see `predictor_search`."""


@dataclass(frozen=True)
class FoundPredictor:
    """The best predictor of one family in hindsight, for one scope.

    family : one of FAMILIES; predictor : its spec, which `analyze --predictor` takes
    path_length, kappa, scaled_kappa, scale : as of `PredictorResult`, in hindsight
    held_out : kappa where each block of rows is predicted with the choice that the other blocks led to; None
    where there are too few rows
    lower, upper : block-bootstrap interval of `held_out`, at the search's confidence for all families at once
    """

    family: str
    predictor: str
    path_length: float
    kappa: float
    scaled_kappa: float
    scale: float | None
    held_out: float | None
    lower: float | None
    upper: float | None

    @property
    def predicts(self) -> bool | None:
        """Whether it beats the zero predictor beyond noise; None where that cannot be said."""
        return None if self.upper is None else self.upper < 1.0


@dataclass(frozen=True)
class ScopeSearch:
    """What was found for one scope: a tensor by name, or the whole model (name None).

    found : at most one of each family, in their order; empty where `why` says why there is none
    steps : ||g_t - m_t||^2 of each found predictor by its spec, (N,) float64; of the whole model only
    """

    name: str | None
    found: tuple[FoundPredictor, ...]
    why: str = ""
    steps: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def of(self, family: str) -> FoundPredictor | None:
        """The best of that family."""
        return next((item for item in self.found if item.family == family), None)

    @property
    def least(self) -> FoundPredictor | None:
        """The least path length in hindsight, whether or not it is more than noise."""
        return min(self.found, key=lambda item: item.path_length, default=None)

    @property
    def best(self) -> FoundPredictor | None:
        """The simplest predictor that beats zero beyond noise and is within 1 percent of the best that does.

        By held-out kappa. None: nothing predicts this scope, or there are too few rows to say (`decided`).
        """
        sure = [item for item in self.found if item.predicts and item.held_out is not None]
        least = min((item.held_out or 0.0 for item in sure), default=0.0)
        return next((item for item in sure if (item.held_out or 0.0) <= 1.01 * least), None)

    @property
    def decided(self) -> bool:
        """Whether there is an interval to decide by."""
        return any(item.predicts is not None for item in self.found)


@dataclass(frozen=True)
class PredictorSearch:
    """The whole model and the tensors in the log's order.

    method : "gram", from inner products of all pairs of rows, or "band", from those of rows nearby, with
    averages of a grid of decays; every candidate's path length is exact
    width : of the band, 1 where memory held averages alone; None with "gram"
    confidence : of the intervals, of all families together; blocks : of rows that were held out in turn
    """

    method: str
    confidence: float
    blocks: int
    total: ScopeSearch
    tensors: tuple[ScopeSearch, ...]
    width: int | None = None
