"""How much of a batch's gradient is signal, from how far neighbouring rows agree, and what batch that wants.

Chatterjee and Zielinski: of m gradients, alpha = ||sum g||^2 / sum ||g||^2, in [0, m]: 1 where they are
orthogonal, as independent noise is in many dimensions, and m where they are the same. Theirs are of single
examples; these are of the K logged rows before t, whose mean is the predictor mean:K: alpha = K sum_t
||m_t||^2 / sum_t E_t, E_t the mean of ||g||^2 over the window, t >= K, for the largest K that was measured.
The signal's share of a row's energy is s = (alpha - 1) / (K - 1), the mean product of two rows over E: 0 for
independent noise of any size, 1 for equal rows. Both without units.

McCandlish et al.: the noise scale in batches of the log's size is (1 - s) / s. With batches of x noise scales
a target takes steps in proportion to 1 + 1 / x and examples to 1 + x: smaller batches cost little where x is
large alone. At s = 0.8, x = 4: half the batch takes 20 percent more steps and 40 percent fewer examples. At s
= 0.45 the batch is below its noise scale, and half of it takes 55 percent more steps. Batches of the whole
data set have no noise, and say nothing of smaller ones. In few dimensions a gradient that keeps its sign
looks like signal: where fewer than LEAST_PARAMETERS carry the energy nothing is decided.
"""

from __future__ import annotations

import functools

import numpy as np

from ..results.reasons import ALL_ZERO
from ..results.training import full_batch
from .decision import BOOTSTRAP, CLEAR, ESTIMATE, KEEP, NOTE, WEAK, Decision, Doubles, Figure
from .evidence import Evidence, ScopeSteps, carrying_parameters
from .intervals import Asked, Formula
from .missing import Asking, of_varying_scopes, unknown

NAME = "coherence"
SOURCE = "Chatterjee and Zielinski, arXiv 2008.01217; McCandlish et al., arXiv 1812.06162"
LEAST_PARAMETERS = 32
"""Directions of independent noise have cosines of about 1 / sqrt(D): below 0.2 from here on."""


SIGNAL = 0.8
"""Share of signal from which on a batch is four noise scales and more."""


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model and each tensor."""
    return of_varying_scopes(evidence, NAME, SOURCE, _of_scope)


def _of_scope(evidence: Evidence, scope: ScopeSteps) -> Asking:
    lengths = [int(spec.removeprefix("mean:")) for spec in scope.residual if spec.startswith("mean:")]
    window = max(lengths, default=0)
    if window < 2:
        return unknown(NAME, scope.name, "needs a predictor mean:K", SOURCE)
    if scope.first.size <= window:
        return unknown(NAME, scope.name, f"fewer than {window + 1} rows", SOURCE)
    if scope.result.energy == 0:
        return unknown(NAME, scope.name, ALL_ZERO, SOURCE)
    if int(scope.rows.max()) > 1:
        return unknown(NAME, scope.name, "sums are kept by bins of rows: give fewer rows with --rows", SOURCE)

    # Windows that overlap hang together.
    found = yield Asked(window_sums(scope, window), signal_share(window), 2.0 * window, fixed=0)
    if found.value is None:
        return unknown(NAME, scope.name, ALL_ZERO, SOURCE)
    basis = ESTIMATE if found.lower is None else BOOTSTRAP
    signal = Figure("signal_share", found.value, found.lower, found.upper, basis)
    scale = (1 - found.value) / found.value if found.value > 0 else None
    figures = (
        signal,
        Figure("noise_scale", None if scale is None else max(scale, 0.0), basis=ESTIMATE),
        Figure(f"alpha[{window}]", 1 + (window - 1) * found.value),
    )

    def told(verdict: str, text: str, confidence: str, weight: float = 0) -> Decision:
        return Decision(NAME, scope.name, verdict, text, figures, confidence, SOURCE, weight)

    if carrying_parameters(scope.result) < LEAST_PARAMETERS:
        text = f"nothing to change: fewer than {LEAST_PARAMETERS} parameters carry the energy"
        return told(KEEP, text, WEAK)
    if full_batch(evidence.analysis.run.attributes):
        return told(KEEP, "nothing to change: full batches have no noise that tells of smaller ones", WEAK)
    if found.lower is not None and found.lower > SIGNAL:
        return told(NOTE, "little noise: try smaller batches", CLEAR, 15)
    noise = found.upper is not None and found.upper < SIGNAL
    return told(KEEP, "nothing to change: smaller batches would cost steps", CLEAR if noise else WEAK)


@functools.cache
def signal_share(window: int) -> Formula:
    """s from sums (..., 2) as of `window_sums`."""
    return lambda sums: np.asarray((window * sums[..., 0] / sums[..., 1] - 1) / (window - 1))


def window_sums(scope: ScopeSteps, window: int) -> Doubles:
    """(N - window, 2) of each row t >= window: ||m_t||^2, and the mean of ||g||^2 over the rows before it."""
    squares = scope.prediction(f"mean:{window}")[window:]
    means = np.lib.stride_tricks.sliding_window_view(scope.energy, window).mean(axis=1)[:-1]
    return np.stack([squares, means], axis=1)
