"""Stationarity of descent along a history-based direction, with the run's own path length as its price.

Let f be L-smooth, x_{t+1} = x_t - eta_t m_t with any direction m_t, g_t the gradient at x_t, eta_t <= 1/L.
From f(x_{t+1}) <= f(x_t) - eta_t <g_t, m_t> + L eta_t^2 / 2 ||m_t||^2 and
2 <g, m> = ||g||^2 + ||m||^2 - ||g - m||^2 follows

    eta_t / 2 ||g_t||^2 <= f(x_t) - f(x_{t+1}) + eta_t / 2 ||g_t - m_t||^2

and summed up, with f* any lower bound of f, and weights w_t = eta_t / sum eta,

    sum_t w_t ||g_t||^2 <= 2 (f_0 - f*) / sum_t eta_t + sum_t w_t ||g_t - m_t||^2.

For a constant eta that is 2 (f_0 - f*) / (eta N) + P(m) / N. The added term alone needs no loss. Units:
squared gradient.

It speaks of a run that moves along m_t, and a log is one of a run that moved along something else: it says
what such a run would come to if the gradients that it met were as predictable as the logged ones. The logged
mean of ||g_t||^2 may lie above it.

Minibatches: with g_t = grad f(x_t) + xi_t, E xi_t = 0 given what was before, m_t made of the past, and eta_t
and the hint fixed beforehand, E <grad f(x_t), m_t> = E <g_t, m_t>, and both sides gain E ||xi_t||^2: the same
holds of expectations. Of the full gradient it holds with sum_t w_t E ||xi_t||^2 to spare.

Where sum w ||g - m||^2 >= sum w ||g||^2, as for kappa >= 1, the inequality is true of any numbers, and says
nothing: it is vacuous. So is it for m = 0, which is why there is no worst case to the whole: without a hint
nothing moves. Below, with k = sum w ||g - m||^2 / sum w ||g||^2, it says that sum w ||g||^2 is at most
2 (f_0 - f*) / ((1 - k) sum eta).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..logs.series import LOSSES, RATES, first_of
from ..results.result import Analysis
from ..results.training import adaptive_optimizer, full_batch
from .guarantee import Guarantee, listed_and_found, no_best, no_series
from .hints import Hint

Doubles = NDArray[np.float64]

WHOLE, ADDED = "stationarity", "stationarity[added]"
NOT_HELD = "the result doesn't hold the log's series: give the store, or what --format json wrote"


FULL_BATCH = "full-batch gradients, as the log says"
MINIBATCH = (
    "in expectation over minibatches, with eta and hint fixed beforehand; for the full gradient the variance "
    "of g_t is to spare"
)


def stationarity_rows(
    analysis: Analysis, hint: Hint | None, smoothness: float | None, rate: float | None, floor: float
) -> list[Guarantee]:
    """The bound on the mean squared gradient norm, and the term that prediction adds to it.

    hint : as of `bounds_hint`
    """
    steps, attributes = analysis.steps, analysis.run.attributes
    why = no_best(analysis) or no_series(analysis)
    rates = None if no_series(analysis) else _usable_rates(analysis, rate)
    varies = rates is not None and bool(np.ptp(rates) > 0)
    whole_batch = full_batch(attributes)
    assumptions = [
        "it speaks of a run that moves by -eta m_t and meets these gradients, not of the logged run",
        "f is L-smooth, g_t the gradient at x_t",
        "eta <= 1/L, not checked" if smoothness is None else f"eta <= 1/L, L = {smoothness:g}",
        f"no loss is below {floor:g}",
        FULL_BATCH if whole_batch else MINIBATCH,
    ]
    if varies:
        assumptions.append("means over steps are weighted by lr")
    formula = "sum w |g-m|^2, w ~ lr" if varies else "P / N"
    of_worst = "sum w |g|^2, w ~ lr" if varies else "E / N"
    whole = f"2 (f_0 - f*) / {'sum lr' if varies else '(lr N)'} + {formula}"

    def row(
        name: str, spec: str, formulas: tuple[str, str], values: tuple[float | None, float | None], why: str
    ) -> Guarantee:
        return Guarantee(
            name, spec, *formulas, tuple(assumptions), *values, why, "along m_t", not whole_batch,
            vacuous and values[0] is not None,
        )  # fmt: skip

    vacuous = False
    if hint is None:
        nothing = None, None
        return [
            row(WHOLE, "", (whole, ""), nothing, why),
            row(ADDED, "", (formula, of_worst), nothing, why),
        ]
    weights = _weights(analysis, rates)
    spec = _moved_along(analysis, hint, weights)
    added, mean = float(weights @ listed_and_found(analysis)[spec]), float(weights @ steps.grad_norm**2)
    vacuous = added >= mean
    first, why = _first_term(analysis, rates, smoothness, floor)
    return [
        row(WHOLE, spec, (whole, ""), (None if first is None else first + added, None), why),
        row(ADDED, spec, (formula, of_worst), (added, mean), ""),
    ]


def stationarity_curves(
    analysis: Analysis, hint: Hint | None, smoothness: float | None, rate: float | None, floor: float
) -> dict[str, Doubles]:
    """(N,) both rows over the rows so far, by name, with the hint of the whole.

    NaN before any lr is above 0.
    """
    if hint is None:
        return {}
    rates = _usable_rates(analysis, rate)
    weights = _weights(analysis, rates)
    residual = listed_and_found(analysis)[_moved_along(analysis, hint, weights)]
    first, _ = _first_term(analysis, rates, smoothness, floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.cumsum(weights * residual) / np.cumsum(weights)
        found = {ADDED: np.asarray(means)}
        if first is not None and rates is not None:
            so_far = first * rates.sum() / np.cumsum(rates)
            found[WHOLE] = np.where(np.isfinite(so_far), so_far + means, np.nan)
    return found


def _moved_along(analysis: Analysis, hint: Hint, weights: Doubles) -> str:
    """What predicts beyond noise; else the best of those that were named beforehand: no noise is fitted."""
    if hint.predicts:
        return hint.predictor
    listed = analysis.steps.path_length
    return min(listed, key=lambda spec: float(weights @ listed[spec]))


def _usable_rates(analysis: Analysis, rate: float | None) -> Doubles | None:
    """(N,) lr of each row, as given or as logged; None where there are none to weigh with."""
    if rate is not None:
        return np.full(analysis.run.rows, rate)
    rates = first_of(analysis.series or {}, RATES)
    usable = rates is not None and (rates >= 0).all() and 0 < rates.sum() < np.inf
    return rates if usable and not adaptive_optimizer(analysis.run.attributes) else None


def _weights(analysis: Analysis, rates: Doubles | None) -> Doubles:
    return np.full(analysis.run.rows, 1 / analysis.run.rows) if rates is None else rates / rates.sum()


def _first_term(
    analysis: Analysis, rates: Doubles | None, smoothness: float | None, floor: float
) -> tuple[float | None, str]:
    """2 (f_0 - f*) / sum eta, or why there is none."""
    if analysis.series is None:
        return None, NOT_HELD
    losses = first_of(analysis.series, LOSSES)
    if losses is None:
        return None, "the log has no loss series"
    if rates is None:
        adaptive = adaptive_optimizer(analysis.run.attributes)
        if adaptive:
            return None, f"{adaptive} rescales gradients, its lr is no step along m_t: give --lr"
        return None, "the log has no usable lr series: give --lr"
    if smoothness is not None and float(rates.max()) > 1 / smoothness:
        return None, f"lr is up to {float(rates.max()):g}, above 1/L = {1 / smoothness:g}"
    if not np.isfinite(losses).all():
        return None, "the loss series is not finite"
    if float(losses.min()) < floor:
        return None, f"the loss falls to {float(losses.min()):g}, below the floor {floor:g}: give --floor"
    return 2 * (float(losses[0]) - floor) / float(rates.sum()), ""
