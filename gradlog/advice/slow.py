"""Slow against fast: how much of the gradients' energy persists, as a slow average sees it.

Grokfast amplifies the slow part of the gradients, an exponential average, by a factor of 2 or so, where
generalization lags behind. Its share is sum <g_t, m_t> / sum ||g_t||^2 over t >= 1, for the slowest ema:B
that was measured, debiased: m_t / (1 - B^t) is the weighted mean of the rows before t. A constant mean of
share s then gives s in a log of any length, and independent noise adds nothing (||m_t||^2 alone has (1 - B)
/ (1 + B) of the noise). It estimates the energy of what persists for 1 / (1 - B) rows, or for the log where
that is shorter. Without units; at most about 1, below 0 where gradients turn back.

Interval: of the share in these rows' energy, which is no estimate. A row counts once as g_t, and again in the
averages behind it, with C_t, the sum of its weights there. Sums by row show it once; so what a row adds is
multiplied by sqrt(l (1 + C_t)^2 + 1 - l), with l the share of what persists in the average, s / (s + (1 - s)
v_t), v_t the sum of its squared weights.
"""

from __future__ import annotations

import numpy as np

from ..results.reasons import ALL_ZERO
from .averages import averages_of, debiased_sums, weights_of
from .decision import BOOTSTRAP, CLEAR, ESTIMATE, KEEP, NOTE, WEAK, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps
from .intervals import Asked
from .missing import Asking, of_varying_scopes, unknown

NAME = "slow"
SOURCE = "Grokfast, arXiv 2405.20233"
LEAST = 0.02
"""A share that cannot be told from less than this is not worth a filter."""
SMALL = 0.25
"""Below this share amplifying would change where a step goes; above it momentum carries the slow part."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    return of_varying_scopes(evidence, NAME, SOURCE, _of_scope)


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Asking:
    averages = averages_of(scope)
    if not averages:
        return unknown(NAME, scope.name, "needs a predictor ema:B", SOURCE)
    if scope.result.energy == 0:
        return unknown(NAME, scope.name, ALL_ZERO, SOURCE)
    if evidence.analysis.run.rows < 2:
        return unknown(NAME, scope.name, "one row has no past", SOURCE)
    spec = averages[-1]
    sums = drawn_apart(scope, spec)
    found = yield Asked(sums, share, scope.memory_bins(spec), fixed=0)
    if found.value is None:
        return unknown(NAME, scope.name, "all gradients but the first are zero", SOURCE)
    basis = ESTIMATE if found.lower is None else BOOTSTRAP
    figure = Figure(f"slow_share[{spec}]", found.value, found.lower, found.upper, basis)
    if found.lower is None or found.upper is None or found.lower <= 0:
        text = "nothing to change: no slow part beyond noise"
        return Decision(NAME, scope.name, KEEP, text, (figure,), WEAK, SOURCE)
    if found.lower < LEAST:
        text = "nothing to change: next to no slow part"
        return Decision(
            NAME, scope.name, KEEP, text, (figure,), CLEAR if found.upper < LEAST else WEAK, SOURCE
        )
    if found.upper < SMALL:
        text = "small slow part: may be amplified"
        return Decision(NAME, scope.name, NOTE, text, (figure,), CLEAR, SOURCE, 20)
    text = "nothing to change: momentum carries the slow part"
    return Decision(NAME, scope.name, KEEP, text, (figure,), CLEAR if found.lower >= SMALL else WEAK, SOURCE)


def share(sums: Doubles) -> Doubles:
    """From sums (..., 2) of <g, m> and ||g||^2."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def drawn_apart(scope: ScopeSteps, spec: str) -> Doubles:
    """(n - 1, 2) sums of <g, m> and ||g||^2 behind row 0, drawn apart by how often rows count."""
    energies, products, _ = debiased_sums(scope, spec)[1:].T
    total = energies.sum()
    if not total > 0:
        return np.stack([products, energies], axis=1)
    value = float(products.sum() / total)
    persists = min(max(value, 0.0), 1.0)
    squares, behind = weights_of(scope, spec)
    linear = persists / np.maximum(persists + (1 - persists) * squares[1:], 1e-300)
    counted = np.sqrt(linear * (1 + behind[1:]) ** 2 + 1 - linear)
    deviations = beside_energies(products, energies) * counted
    deviations -= deviations.mean()
    return np.stack([value * energies + deviations, energies], axis=1)


def beside_energies(products: Doubles, energies: Doubles) -> Doubles:
    """(n,) what of <g, m> is left beside a constant and the energies, by weighted least squares.

    Products vary as the energy does; each residual is divided by what its own weight in the fit leaves of it.
    """
    scale = np.sqrt(np.maximum(energies, 1e-12 * energies.max()))
    regressors = np.stack([np.full_like(energies, energies.mean()), energies], axis=1) / scale[:, None]
    basis, _ = np.linalg.qr(regressors)
    fitted = basis @ (basis.T @ (products / scale))
    left = np.maximum(1 - np.square(basis).sum(axis=1), 0.1)
    return np.asarray((products / scale - fitted) / left * scale)
