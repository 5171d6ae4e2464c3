"""No predictor foretells more than noise would let it seem, in a run that is long enough to tell.

1 - scaled kappa is the squared correlation of rows with what was predicted, with the best factor before it.
Independent rows have a correlation of 0 up to a few deviations (`Examined.noise_deviation`); where no
predictor has more, and one that explains 5 percent of the energy would have been seen, none does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .finding import Examined, Finding

CODE = "nothing-foretold"


def find(examined: Examined) -> Iterator[Finding]:
    """Of the whole model: all predictors that were measured, and neither sign of the factor."""
    total = examined.analysis.total
    measured = [p for p in total.predictors if p.predictor != "zero" and p.scaled_kappa is not None]
    noise = examined.noise_deviation(total)
    if not measured or noise is None or total.estimated:
        return
    most = noise * examined.deviations(2 * len(measured))
    best = min(measured, key=lambda p: p.scaled_kappa or 0.0)
    explained = 1 - (best.scaled_kappa or 0.0)
    # As far again beside what noise reaches: then it is passed nearly always.
    if math.sqrt(explained) > most or (2 * most) ** 2 > examined.thresholds.explained:
        return
    figures = {"explained": explained, "noise_to": most**2, "predictors": float(len(measured))}
    text = (
        f"no predictor is better than noise: {best.predictor} explains {100 * explained:.2g}% of the "
        f"energy, and noise up to {100 * most**2:.2g}%"
    )
    yield Finding(CODE, None, None, figures, text)
