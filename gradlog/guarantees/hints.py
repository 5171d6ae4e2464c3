"""The hint that curves and stationarity follow: one that predicts beyond noise, if there is one.

What leaves least over all rows leaves less than no hint on noise too: it was chosen among hundreds, by these
rows. A search says which of its families predict rows that they were not chosen on. Without one, listed
predictors, which were named beforehand, get block-bootstrap intervals of kappa, at 1 - 0.05 / K each of K.
Independent noise of any norms has a kappa of at least 1 for every predictor that the past alone makes
(`statistics.noise_reference`): what lies below 1 for sure is beyond noise.
"""

from __future__ import annotations

import numpy as np

from ..predictors import memory_rows
from ..quick_dataclass import dataclass
from ..results.result import Analysis
from ..statistics.noise_reference import LEAST_EFFECTIVE_ROWS, effective_rows
from .guarantee import listed_and_found, no_best, no_series

CONFIDENCE = 0.95
"""That no listed predictor is called beyond noise where none is."""


@dataclass(frozen=True)
class Hint:
    """predictor : its spec; predicts : whether it beats no hint beyond noise, None where nobody can tell"""

    predictor: str
    predicts: bool | None


def bounds_hint(analysis: Analysis) -> Hint | None:
    """The best that predicts beyond noise, else the one with the least path length in hindsight.

    None where there are no sums of predictors by step.
    """
    if no_best(analysis) or no_series(analysis):
        return None
    if effective_rows(analysis.steps.grad_norm**2) < LEAST_EFFECTIVE_ROWS:
        return Hint(_least(analysis), None)
    search = analysis.search
    if search is None:
        return _listed(analysis)
    if search.total.best is not None:
        return Hint(search.total.best.predictor, True)
    return Hint(_least(analysis), False if search.total.decided else None)


def _least(analysis: Analysis) -> str:
    residuals = listed_and_found(analysis)
    return min(residuals, key=lambda spec: float(residuals[spec].sum()))


def _listed(analysis: Analysis) -> Hint:
    """Of listed predictors, the least path length among those whose kappa lies below 1 for sure."""
    # Deferred: with a search it was held out already.
    from ..measures.search.held_out import enough_rows, ratio_intervals

    residuals, rows = analysis.steps.path_length, analysis.run.rows
    specs = sorted(residuals, key=lambda spec: float(residuals[spec].sum()))
    if not enough_rows(rows):
        return Hint(specs[0], None)
    intervals = ratio_intervals(
        np.stack([residuals[spec] for spec in specs], axis=1),
        analysis.steps.grad_norm**2,
        [memory_rows(spec, rows) for spec in specs],
        1 - (1 - CONFIDENCE) / len(specs),
    )
    # Nothing left at all has no interval, and no doubt.
    sure = (
        spec
        for spec, interval in zip(specs, intervals, strict=True)
        if (interval[1] < 1.0 if interval else not residuals[spec].any())
    )
    found = next(sure, None)
    return Hint(found or specs[0], found is not None)
