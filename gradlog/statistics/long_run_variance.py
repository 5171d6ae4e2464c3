"""Variance of sums over steps that resemble their neighbours, and how well it is known.

Row by row, a figure's influences x_t hang together, so that the variance of their sum is not the sum of their
variances. Products x_t x_{t+k} are counted with the flat-top window of Politis and Romano (1995), whose width
follows from the autocorrelation of x_t (Politis and White 2004). That holds where influences shrink, grow or
burst on the way, as products carry the scale of their own rows; a regression on rows before (prewhitening)
takes such changes of scale for memory.
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
LEAST_FREEDOM = 2.0
LEAST_SHARE = 0.1
"""Of the uncorrelated variance: below, a windowed estimate says more about its own error."""


def long_run_variance(influence: Doubles, lags: Doubles) -> tuple[Doubles, Doubles]:
    """Variances (Q,) of the sums of Q series, and degrees of freedom (Q,) that they are known with.

    Where few of the bins carry the variance, it is known as from these few alone: (sum x^2)^2 / sum x^4
    bins, as of Satterthwaite's formula.

    influence : (Q, n) float64, what each bin adds to a figure, to first order
    lags : (Q,), bins over which correlation is counted in full whatever is seen of it
    """
    scale = np.abs(influence).max(axis=1, keepdims=True)
    scaled = np.divide(influence, scale, out=np.zeros_like(influence), where=scale > 0)
    scaled = scaled - scaled.mean(axis=1, keepdims=True)
    variance, freedom = flat_top_variance(scaled, lags)
    n = influence.shape[1]
    squares = np.square(scaled)
    fourth = np.square(squares).sum(axis=1)
    carrying = np.divide(squares.sum(axis=1) ** 2, fourth, out=np.full_like(fourth, n), where=fourth > 0)
    return np.asarray(variance * n * scale[:, 0] ** 2), np.maximum(freedom * carrying / n, LEAST_FREEDOM)


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

    covariance : (Q, lags + 1) autocovariances of series of n values, two or more. The rule of Politis and
    White (2004).
    """
    calm_lags, most = lags_looked_at(n)
    calm_lags = min(calm_lags, most)  # of fewer than ten values
    small = np.abs(covariance[:, 1 : most + 1]) <= 2 * math.sqrt(math.log10(n) / n) * covariance[:, :1]
    start = np.zeros((covariance.shape[0], 1), dtype=np.int64)
    seen = np.concatenate([start, small.cumsum(axis=1)], axis=1)
    calm = seen[:, calm_lags:] - seen[:, :-calm_lags] == calm_lags
    last = np.where(calm.any(axis=1), calm.argmax(axis=1), most - small[:, ::-1].argmin(axis=1))
    return np.asarray(last, dtype=np.int64)
