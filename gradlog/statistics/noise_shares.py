"""Energy that the leading directions of increments hold where gradients are independent noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .noise_reference import spectrum_reference

Doubles = NDArray[np.float64]

EVEN_SHARES = 200
"""Shares of the energy, evenly apart, that the number of directions is asked for."""
TAIL_SHARES = np.geomspace(0.1, 1e-4, 60)
"""Shares left out: closer where few directions less make r* much smaller."""


def noise_shares(energies: Doubles, parameters: Doubles, shares: Doubles) -> Doubles:
    """(R,) float64: share of the increments' energy that the leading 1, 2, ..., R directions hold.

    R = min(N - 1, D); empty where there are no increments. r* of many epsilons, turned round: the share of
    r directions is the greatest 1 - eps with r*(eps) <= r, straight in between. Of the mean over draws it is
    off by about a hundredth, and by some more where few rows carry the energy.

    energies, parameters, shares : as of `noise_reference.spectrum_reference`
    """
    epsilons = np.union1d(np.linspace(0.0, 1.0, EVEN_SHARES, endpoint=False)[1:], TAIL_SHARES)[::-1]
    reference = spectrum_reference(energies, parameters, shares, epsilons.tolist())
    if reference is None:
        return np.zeros(0)
    most = int(min(energies.size - 1, max(1.0, np.maximum(parameters[shares > 0], 1.0).sum())))
    ranks, held = np.array(reference.rank), 1.0 - epsilons  # both grow
    last = np.flatnonzero(np.diff(ranks, append=np.inf) > 0)
    at = np.concatenate([[0], ranks[last], [most + 1]])
    of = np.concatenate([[0.0], held[last], [1.0]])
    found = np.interp(np.arange(1, most + 1), at, of)
    found[0] = max(found[0], min(1.0, 1.0 / reference.stable_rank))
    found[-1] = 1.0
    return np.maximum.accumulate(found)
