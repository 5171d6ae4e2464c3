"""Circular block bootstrap: how else a figure that is made of sums over steps could have come out.

Rows follow one another in training and resemble their neighbours, so that blocks of consecutive bins are
drawn, not single ones (Politis and Romano 1992: with replacement, from the bins laid out in a circle). How
long blocks are follows from the autocorrelation of what each bin adds to the figure (Politis and White
2004, with Patton's correction 2009).
"""

from __future__ import annotations

import hashlib
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .long_run_variance import autocovariances, lags_looked_at, last_correlated_lag

Doubles = NDArray[np.float64]

RESAMPLES = 999
"""Of the figures of one run."""
LEAST_BLOCKS = 10
"""Blocks are never so long that fewer of them make up a run."""


def block_lengths(influence: Doubles, memory: Doubles) -> NDArray[np.int64]:
    """Length of blocks, in bins, for each of Q figures.

    influence : (Q, n) float64, what each bin adds to a figure, to first order
    memory : (Q,), bins that a figure's predictor looks back on, and that therefore hang together

    Twice the length that Politis and White find best for estimating a variance (an interval loses more to a
    variance that is too small than to one that is uncertain), at least n^(1/3) and `memory`, and at most
    n / 10; rounded to a power of the root of 2 so that figures share their draws.
    """
    count, n = influence.shape
    _, most = lags_looked_at(n)
    centred = influence - influence.mean(axis=1, keepdims=True)
    scale = np.abs(centred).max(axis=1, keepdims=True)
    centred = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)
    covariance = autocovariances(centred, most)
    last = last_correlated_lag(covariance, n)
    lags = np.arange(most + 1)
    window = np.clip(2 * (1 - lags / np.clip(2 * last, 1, most)[:, None]), 0.0, 1.0)
    slope = 2 * (window * lags * covariance).sum(axis=1)
    variance = covariance[:, 0] + 2 * (window * covariance)[:, 1:].sum(axis=1)
    ratio = np.divide(slope, variance, out=np.zeros(count), where=variance > 0)
    best = np.minimum(np.cbrt(1.5 * ratio * ratio * n), min(3 * math.sqrt(n), n / 3))
    wanted = np.clip(2 * best, np.maximum(np.cbrt(n), memory), n / LEAST_BLOCKS)
    steps = np.floor(2 * np.log2(wanted) + 0.5)
    rounded = np.minimum(np.rint(np.exp2(steps / 2)), max(1, n // LEAST_BLOCKS))
    return np.asarray(rounded, dtype=np.int64)


def draw_weights(seed: int, bins: int, length: int, resamples: int) -> Doubles:
    """(resamples, bins) float64: how often each bin is drawn. Each row adds up to `bins`.

    The draws depend on `seed`, `bins` and `length` alone.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, bins, length])))
    blocks = -(-bins // length)
    starts = rng.integers(0, bins, size=(resamples, blocks))
    last = bins - length * (blocks - 1)
    # +1 where a block starts and -1 behind its end, on a line that is as long as the circle and a block.
    width = bins + length + 1
    rows = np.arange(resamples)[:, None] * width
    ends = starts + length
    ends[:, -1] += last - length
    marks = np.bincount((starts + rows).ravel(), minlength=resamples * width)
    marks -= np.bincount((ends + rows).ravel(), minlength=resamples * width)
    line = marks.reshape(resamples, width).cumsum(axis=1)
    weights = line[:, :bins].astype(np.float64)
    weights[:, :length] += line[:, bins : bins + length]
    return weights


def content_seed(norms: Doubles) -> int:
    """64 bits that follow from a run's gradient norms (N,), to six digits: not from its path or place.

    Processors differ in the last bits of a sum, which must not lead to other draws.
    """
    fraction, exponent = np.frexp(np.nan_to_num(norms))
    digits = np.rint(fraction * (1 << 20)).astype("<i4").tobytes() + exponent.astype("<i4").tobytes()
    return int.from_bytes(hashlib.sha256(digits).digest()[:8], "little")


def expansion(variances: Doubles, blocks: Doubles, confidence: float) -> Doubles:
    """By how much percentile deviations must grow for few blocks to reach their `confidence`.

    variances : (R, Q) of the resampled figures of R independent runs; blocks : (R, Q), n / length

    Resampled variances miss 1 / blocks of the variance, and about twice as much again of the correlation
    that blocks cut; Student's t takes the place of the normal distribution, with Welch's degrees of freedom.
    Hesterberg 2015 has the like for independent data.
    """
    unbiased = variances * blocks / np.maximum(blocks - 3, 1)
    total, plain = unbiased.sum(axis=0), variances.sum(axis=0)
    spread = (unbiased**2 / np.maximum(blocks - 1, 1)).sum(axis=0)
    freedom = np.divide(total**2, spread, out=np.full(total.shape, np.inf), where=spread > 0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    inflation = np.sqrt(np.divide(total, plain, out=np.ones_like(total), where=plain > 0))
    grown: Doubles = student(z, freedom) / z * inflation
    return grown


def student(z: float, freedom: Doubles) -> Doubles:
    """Student's t quantile from the normal one `z`, expanded in 1 / freedom (Abramowitz & Stegun 26.7.5)."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    inverse = 1 / freedom
    return np.asarray(z + sum(term * inverse ** (k + 1) for k, term in enumerate(terms)))


def tails(values: Doubles, confidence: float) -> tuple[Doubles, Doubles]:
    """(Q,) order statistics of (B, Q) values that cut off (1 - confidence) / 2 on either side."""
    count = values.shape[0]
    cut = max(0, round((count + 1) * (1 - confidence) / 2) - 1)
    ordered = np.partition(values, (cut, count - 1 - cut), axis=0)
    return ordered[cut], ordered[count - 1 - cut]


def interval_ends(
    points: Doubles, resampled: Doubles, variances: Doubles, blocks: Doubles, confidence: float
) -> tuple[Doubles, Doubles]:
    """(Q,) lower and upper ends of the intervals of Q figures.

    points : (Q,), the figures themselves; resampled : (B, Q); variances, blocks : as of `expansion`
    """
    grown = expansion(variances, blocks, confidence)
    below, above = tails(resampled, confidence)
    return points + grown * (below - points), points + grown * (above - points)
