"""Stationarity of descent along a history-based direction, with the run's own path length as its price.

Let f be L-smooth, x_{t+1} = x_t - eta_t m_t with any direction m_t, g_t the gradient at x_t, eta_t <= 1/L.
From f(x_{t+1}) <= f(x_t) - eta_t <g_t, m_t> + L eta_t^2 / 2 ||m_t||^2 and
2 <g, m> = ||g||^2 + ||m||^2 - ||g - m||^2 follows

    eta_t / 2 ||g_t||^2 <= f(x_t) - f(x_{t+1}) + eta_t / 2 ||g_t - m_t||^2

and summed up, with f* any lower bound of f, and weights w_t = eta_t / sum eta,

    sum_t w_t ||g_t||^2 <= 2 (f_0 - f*) / sum_t eta_t + sum_t w_t ||g_t - m_t||^2.

For a constant eta that is 2 (f_0 - f*) / (eta N) + P(m) / N. The added term alone needs no loss. The worst
case puts m_t = 0 into the added term: mean ||g_t||^2. Units: squared gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..logs.series import LOSSES, RATES, first_of
from ..results.result import Analysis
from .guarantee import LOGGED, Guarantee, listed_and_found, no_best, no_series

Doubles = NDArray[np.float64]

WHOLE, ADDED = "stationarity", "stationarity[added]"


def stationarity_rows(
    analysis: Analysis, smoothness: float | None, rate: float | None, floor: float
) -> list[Guarantee]:
    """The bound on the mean squared gradient norm, and the term that prediction adds to it."""
    steps = analysis.steps
    why = no_best(analysis) or no_series(analysis)
    rates = None if no_series(analysis) else _usable_rates(analysis, rate)
    varies = rates is not None and bool(np.ptp(rates) > 0)
    assumptions = [
        "f is L-smooth, x moves by -eta m_t, g_t the gradient at x_t",
        "eta <= 1/L, not checked" if smoothness is None else f"eta <= 1/L, L = {smoothness:g}",
        f"no loss is below {floor:g}",
        LOGGED,
    ]
    if varies:
        assumptions.append("means over steps are weighted by lr")
    formula = "sum w |g-m|^2, w ~ lr" if varies else "P / N"
    of_worst = "sum w |g|^2, w ~ lr" if varies else "E / N"
    whole = f"2 (f_0 - f*) / {'sum lr' if varies else '(lr N)'} + {formula}"
    if why:
        return [
            Guarantee(WHOLE, "", whole, "", tuple(assumptions), None, None, why),
            Guarantee(ADDED, "", formula, of_worst, tuple(assumptions), None, None, why),
        ]
    residuals, weights = listed_and_found(analysis), _weights(analysis, rates)
    hint = _best_hint(residuals, weights)
    added, worst = float(weights @ residuals[hint]), float(weights @ steps.grad_norm**2)
    first, why = _first_term(analysis, rates, smoothness, floor)
    value, limit = (None, None) if first is None else (first + added, first + worst)
    said, of_all = tuple(assumptions), whole.replace(formula, of_worst)
    return [
        Guarantee(WHOLE, hint, whole, of_all, said, value, limit, why),
        Guarantee(ADDED, hint, formula, of_worst, said, added, worst),
    ]


def stationarity_curves(
    analysis: Analysis, smoothness: float | None, rate: float | None, floor: float
) -> dict[str, Doubles]:
    """(N,) both rows over the rows so far, by name, with the hint that is best over all rows.

    NaN before any lr is above 0.
    """
    if no_best(analysis) or no_series(analysis):
        return {}
    residuals = listed_and_found(analysis)
    rates = _usable_rates(analysis, rate)
    weights = _weights(analysis, rates)
    first, _ = _first_term(analysis, rates, smoothness, floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.cumsum(weights * residuals[_best_hint(residuals, weights)]) / np.cumsum(weights)
        found = {ADDED: np.asarray(means)}
        if first is not None and rates is not None:
            so_far = first * rates.sum() / np.cumsum(rates)
            found[WHOLE] = np.where(np.isfinite(so_far), so_far + means, np.nan)
    return found


def _best_hint(residuals: Mapping[str, Doubles], weights: Doubles) -> str:
    return min(residuals, key=lambda spec: float(weights @ residuals[spec]))


def _usable_rates(analysis: Analysis, rate: float | None) -> Doubles | None:
    """(N,) lr of each row, as given or as logged; None where there are none to weigh with."""
    rates = np.full(analysis.run.rows, rate) if rate is not None else first_of(analysis.series, RATES)
    usable = rates is not None and (rates >= 0).all() and 0 < rates.sum() < np.inf
    return rates if usable else None


def _weights(analysis: Analysis, rates: Doubles | None) -> Doubles:
    return np.full(analysis.run.rows, 1 / analysis.run.rows) if rates is None else rates / rates.sum()


def _first_term(
    analysis: Analysis, rates: Doubles | None, smoothness: float | None, floor: float
) -> tuple[float | None, str]:
    """2 (f_0 - f*) / sum eta, or why there is none."""
    losses = first_of(analysis.series, LOSSES)
    if losses is None:
        return None, "the log has no loss series"
    if rates is None:
        return None, "the log has no usable lr series: give --lr"
    if smoothness is not None and float(rates.max()) > 1 / smoothness:
        return None, f"lr is up to {float(rates.max()):g}, above 1/L = {1 / smoothness:g}"
    if not np.isfinite(losses).all():
        return None, "the loss series is not finite"
    if float(losses.min()) < floor:
        return None, f"the loss falls to {float(losses.min()):g}, below the floor {floor:g}: give --floor"
    return 2 * (float(losses[0]) - floor) / float(rates.sum()), ""
