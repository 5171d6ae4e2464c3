"""Exponential averages of any memory on equal terms: over the weight that they have gathered, 1 - B^t.

An average starts at 0: m_t holds weights that add up to 1 - B^t, so that long memories would look weak in
short logs. m_t / (1 - B^t) is the weighted mean of the rows before t (Adam's debiasing).
"""

from __future__ import annotations

import math

import numpy as np

from .decision import Doubles
from .evidence import ScopeSteps

AVERAGE = "ema:"


def decay(spec: str) -> float:
    """B of ema:B."""
    return float(spec.removeprefix(AVERAGE))


def averages_of(scope: ScopeSteps) -> list[str]:
    """The averages that were measured, the shortest memory first."""
    return sorted((spec for spec in scope.residual if spec.startswith(AVERAGE)), key=decay)


def debiased_sums(scope: ScopeSteps, spec: str) -> Doubles:
    """(n, 3) sums of ||g_t||^2, <g_t, m_t> and ||m_t||^2 of the debiased average; 0 for row 0.

    Rows of a bin share the mean of their factors.
    """
    weight = _gathered(scope, decay(spec))
    first, second = _by_bin(scope, 1 / weight), _by_bin(scope, weight**-2.0)
    found = np.stack([scope.energy, first * scope.product[spec], second * scope.prediction(spec)], axis=1)
    found[0] = 0.0
    return found


def weights_of(scope: ScopeSteps, spec: str) -> tuple[Doubles, Doubles]:
    """Of the debiased average: (n,) sum of its squared weights, and (n,) sum of a row's weights behind it."""
    memory = decay(spec)
    weight = _gathered(scope, memory)
    squares = (1 - memory) / (1 + memory) * (2 - weight) / weight
    behind, later = np.zeros(weight.size), 0.0
    shares = ((1 - memory) / weight).tolist()
    for t in range(weight.size - 2, -1, -1):
        later = shares[t + 1] + memory * later
        behind[t] = later
    return _by_bin(scope, squares), _by_bin(scope, behind)


def _gathered(scope: ScopeSteps, memory: float) -> Doubles:
    """(N,) 1 - B^t; 1 for row 0, which has no past."""
    steps = np.arange(1, int(scope.rows.sum()), dtype=np.float64)
    weight = -np.expm1(steps * math.log(memory)) if memory > 0 else np.ones_like(steps)
    return np.append(1.0, weight)


def _by_bin(scope: ScopeSteps, values: Doubles) -> Doubles:
    """(n,) means of (N,) values over the rows of each bin."""
    return np.asarray(np.add.reduceat(values, scope.first) / scope.rows)
