"""How many directions a spectrum amounts to: stable rank, effective rank, participation ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .quantities import COUNTS as COUNTS

Doubles = NDArray[np.float64]


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
