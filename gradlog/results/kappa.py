"""Kappa, scaled kappa and scale of a predictor, from the sums that define them."""

from __future__ import annotations

from .result import PredictorResult


def predictor_result(
    spec: str, energy: float, residual: float, product: float, prediction: float
) -> PredictorResult:
    """The figures of one predictor, from sum ||g||^2, sum ||g - m||^2, sum <g, m> and sum ||m||^2."""
    if energy == 0.0:
        return PredictorResult(spec, residual, None, None, None)
    if prediction == 0.0:
        return PredictorResult(spec, residual, residual / energy, 1.0, None)
    # Two forms of the same number; each is the one without cancellation on its side of kappa = 1.
    if residual < energy:
        excess = product - prediction
        left = residual / energy - excess / prediction * (excess / energy)
    else:
        left = 1.0 - product / prediction * (product / energy)
    return PredictorResult(spec, residual, residual / energy, min(1.0, max(0.0, left)), product / prediction)
