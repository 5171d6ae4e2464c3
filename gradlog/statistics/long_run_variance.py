"""Variance of sums over steps that resemble their neighbours, and how well it is known.

Row by row, a figure's influences x_t hang together, so that the variance of their sum is not the sum of their
variances. Most of that dependence is taken out first: x_t and the sums it is made of are regressed on the
sums of the row before (prewhitening by a vector autoregression of order 1, Andrews and Monahan 1992). What
is left, y_t, adds up to the same but for its ends, and nearly without correlation: for gradients that follow
an AR(1) process exactly without. What correlation is left is counted by the flat-top window of Politis and
Romano (1995), whose width follows from the autocorrelation of y_t (Politis and White 2004).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

LEAST_BINS = 24
"""Fewer bins tell nothing about how they vary."""
LEAST_LAGS = 3
"""Lags that are always counted in full."""
LEAST_FREEDOM = 4.0
MOST_MEMORY = 0.97
"""Largest modulus of the autoregression's eigenvalues: nearer to 1, a trend cannot be told from chance."""
RIDGE = 1e-6
"""Of the regression, beside sums of unit variance: where they are proportional to each other."""
LEAST_SHARE = 0.1
"""Of the uncorrelated variance: below, a windowed estimate says more about its own error."""


def long_run_variance(influence: Doubles, states: Doubles, lags: Doubles) -> tuple[Doubles, Doubles]:
    """Variances (Q,) of the sums of Q series, and degrees of freedom (Q,) that they are known with.

    influence : (Q, n) float64, what each bin adds to a figure, to first order
    states : (Q, n, k) float64, the sums of each bin that foretell the next ones' influence
    lags : (Q,), bins beyond which no correlation is left by construction, as for a mean of so many
    """
    scale = np.abs(influence).max(axis=1, keepdims=True)
    scaled = np.divide(influence, scale, out=np.zeros_like(influence), where=scale > 0)
    scaled = scaled - scaled.mean(axis=1, keepdims=True)
    white, regressors = _whitened(scaled, _standardized(states))
    variance, freedom = flat_top_variance(white, lags)
    # As many degrees of freedom as of bins are lost to the regression's coefficients, in both runs of it.
    n = influence.shape[1]
    variance *= n * (1 + 2 * regressors / n)
    plain = scaled.var(axis=1)
    # How far the regression inflates the variance rests on coefficients that are known to 1 / sqrt(n).
    grown = np.divide(variance, plain * n, out=np.ones_like(plain), where=plain > 0)
    freedom = 2 / (2 / freedom + 4 * np.maximum(grown - 1, 0) / n)
    return np.asarray(variance * scale[:, 0] ** 2), np.maximum(freedom, LEAST_FREEDOM)


def _standardized(states: Doubles) -> Doubles:
    largest = np.abs(states).max(axis=1, keepdims=True)
    scaled = np.divide(states, largest, out=np.zeros_like(states), where=largest > 0)
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9))


def _whitened(series: Doubles, states: Doubles) -> tuple[Doubles, int]:
    """(Q, n - 1) innovations that add up to what the series (Q, n) adds up to, and the regressors' number.

    With z_t = A z_{t-1} + u_t and x_t = b z_{t-1} + v_t, sum x_t is sum (v_t + b (I - A)^-1 u_t) but for its
    ends.
    """
    before, count = states[:, :-1], states.shape[2]
    products = np.swapaxes(before, 1, 2) @ before + RIDGE * before.shape[1] * np.eye(count)
    transition = np.swapaxes(np.linalg.solve(products, np.swapaxes(before, 1, 2) @ states[:, 1:]), 1, 2)
    slopes = np.linalg.solve(products, np.swapaxes(before, 1, 2) @ series[:, 1:, None])
    size = np.abs(np.linalg.eigvals(transition)).max(axis=1)
    shrink = np.where(size > MOST_MEMORY, MOST_MEMORY / np.maximum(size, MOST_MEMORY), 1.0)
    transition = transition * shrink[:, None, None]
    innovations = states[:, 1:] - before @ np.swapaxes(transition, 1, 2)
    carried = np.linalg.solve(np.swapaxes(np.eye(count) - transition, 1, 2), slopes)
    return (series[:, 1:, None] - before @ slopes + innovations @ carried)[:, :, 0], count


def flat_top_variance(series: Doubles, lags: Doubles) -> tuple[Doubles, Doubles]:
    """Long-run variance (Q,) of each of the series (Q, n) for one row, and its degrees of freedom.

    Autocovariances count in full up to the last lag with some, and up to `lags`, at most n / 10; and ever
    less up to twice as far. Trapezoidal window w: freedom is n / sum w^2, as Parzen's.
    """
    n = series.shape[1]
    most = n // 2
    covariance = autocovariances(series - series.mean(axis=1, keepdims=True), most)
    least = np.clip(lags, LEAST_LAGS, max(LEAST_LAGS, n / 10))
    width = np.minimum(2 * np.maximum(last_correlated_lag(covariance, n), least) + 1, most)
    window = np.clip(2 * (1 - np.arange(most + 1) / width[:, None]), 0.0, 1.0)
    window[:, 1:] *= 2
    variance = (window * covariance).sum(axis=1)
    # The mean was taken from the series itself.
    variance /= 1 - np.minimum(window.sum(axis=1) / n, 0.9)
    freedom = n / (1 + (window[:, 1:] ** 2).sum(axis=1) / 2)
    return np.maximum(variance, LEAST_SHARE * covariance[:, 0]), freedom


def autocovariances(centred: Doubles, most: int) -> Doubles:
    """(Q, most + 1): sum over t of x_t x_{t+lag}, over n, for lags 0 .. most.

    centred : (Q, n) float64 series without their means
    """
    n = centred.shape[1]
    spectrum = np.fft.rfft(centred, 1 << (2 * n - 1).bit_length(), axis=1)
    return np.asarray(np.fft.irfft(spectrum.real**2 + spectrum.imag**2, axis=1)[:, : most + 1] / n)


def lags_looked_at(n: int) -> tuple[int, int]:
    """How many lags in a row tell that correlation has ended, and how many are looked at, of n values."""
    calm = max(5, math.ceil(math.sqrt(math.log10(n))))
    return calm, min(math.ceil(math.sqrt(n)) + calm, n // 2)


def last_correlated_lag(covariance: Doubles, n: int) -> NDArray[np.int64]:
    """The last lag before a run of lags without correlation; where there is none, the last with some.

    covariance : (Q, lags + 1) autocovariances of series of n values. The rule of Politis and White (2004).
    """
    calm_lags, most = lags_looked_at(n)
    small = np.abs(covariance[:, 1 : most + 1]) <= 2 * math.sqrt(math.log10(n) / n) * covariance[:, :1]
    start = np.zeros((covariance.shape[0], 1), dtype=np.int64)
    seen = np.concatenate([start, small.cumsum(axis=1)], axis=1)
    calm = seen[:, calm_lags:] - seen[:, :-calm_lags] == calm_lags
    last = np.where(calm.any(axis=1), calm.argmax(axis=1), most - small[:, ::-1].argmin(axis=1))
    return np.asarray(last, dtype=np.int64)
