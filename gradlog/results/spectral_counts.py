"""How many directions a spectrum amounts to: r*, stable rank, effective rank, participation ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .quantities import COUNTS as COUNTS

Doubles = NDArray[np.float64]

TIE = 1e-12
"""Share of the energy by which a cumulative sum may miss its threshold and still meet it: rounding."""


def spectral_counts(squares: Doubles, times: Doubles | float = 1.0) -> dict[str, Any]:
    """The three counts of one spectrum, by the names that `SpectrumResult` gives them; each is 1 .. n.

    squares : (n,) sigma_i^2, not all 0; times : how often each stands in the spectrum
    """
    shares = squares / np.sum(times * squares)
    return {
        "stable_rank": 1.0 / float(shares.max()),
        "effective_rank": float(effective_rank(squares, times)),
        "participation_ratio": 1.0 / float(np.sum(times * shares * shares)),
    }


def effective_rank(squares: Doubles, times: Doubles | float = 1.0) -> Doubles:
    """(...,) exp(-sum p_i ln p_i), p_i the shares of squares (..., n), whose sums are above 0: in 1 .. n."""
    shares = squares / (times * squares).sum(axis=-1, keepdims=True)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(np.exp(-(times * shares * logs).sum(axis=-1)))


def predictable_ranks(squares: Doubles, epsilon: float) -> Doubles:
    """(...) r* as of `predictable_rank`; NaN where squares are not all finite.

    squares : (..., n) sigma_i^2, descending, zeros at the end where there are fewer
    """
    if not squares.shape[-1]:
        return np.zeros(squares.shape[:-1])
    total = squares.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        short = np.cumsum(squares, axis=-1) < (1.0 - epsilon - TIE) * total[..., None]
        # What is left of rounding is no direction.
        ranks = np.minimum(short.sum(axis=-1) + 1, (squares > 0).sum(axis=-1))
    return np.where(np.isfinite(total), np.where(total > 0, ranks, 0), np.nan)


def predictable_rank(squares: Doubles, epsilon: float) -> tuple[int, float]:
    """r*, the least r with sum_{i<=r} squares_i >= (1 - epsilon) sum squares, and the same as a real number.

    That counts the last direction as far as its energy is wanted: it is in (r* - 1, r*], and moves with the
    spectrum where r* jumps. 0 where all are 0.

    squares : (n,) sigma_i^2, descending
    """
    total = float(squares.sum())
    if not total > 0.0:
        return 0, 0.0
    cumulative = np.cumsum(squares)
    wanted = (1.0 - epsilon - TIE) * total
    rank = min(int(np.searchsorted(cumulative, wanted)) + 1, squares.size)
    last = float(squares[rank - 1])
    short = max(0.0, float(cumulative[rank - 1]) - wanted)
    return rank, rank - min(short / last, 1.0) if last > 0.0 else float(rank)
