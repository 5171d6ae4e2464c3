"""One-step kappa above 2, and clearly above what noise has: steps oppose each other.

kappa = 1 + sum ||g_{t-1}||^2 / E - 2 sum <g_t, g_{t-1}> / E, and independent rows have a sum of products of
0, and a kappa of 2 at most: the reference. It is told where kappa is a tenth above the reference, and further
than the products of noise get (`Examined.noise_deviation`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..results.result import ScopeResult
from .finding import Examined, Finding

CODE = "opposing-steps"
PREDICTOR = "one-step"
OF_NOISE = 2.0


def find(examined: Examined) -> Iterator[Finding]:
    """Of the whole model and of tensors."""
    scopes = list(examined.scopes)
    deviations = examined.deviations(len(scopes))
    for name, scope in scopes:
        found = next((p for p in scope.predictors if p.predictor == PREDICTOR), None)
        if found is None or found.kappa is None or found.reference is None:
            continue
        least = _least(examined, scope, found.kappa_error, deviations)
        limit = max(OF_NOISE, examined.thresholds.opposing * found.reference)
        if least is not None and found.kappa > max(limit, found.reference + least):
            figures = {
                "kappa": found.kappa,
                "reference": found.reference,
                "noise_to": found.reference + least,
            }
            kappas = f"one-step kappa {found.kappa:.3g}, and noise has {found.reference:.3g}"
            text = f"{examined.analysis.run.kind.name} oppose each other: {kappas}"
            yield Finding(CODE, name, None, figures, text)


def _least(examined: Examined, scope: ScopeResult, error: float | None, deviations: float) -> float | None:
    """By how much noise, and the sketch if it is one, put kappa above its reference at most."""
    noise = examined.noise_deviation(scope)
    return None if noise is None else deviations * math.hypot(2 * noise, error or 0.0)
