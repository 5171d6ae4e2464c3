"""The gap in the rolling spectrum of increments: where it opens and where it closes.

The spectral edge: of the increments of W = 10 successive rows, sigma_1 >= .. >= sigma_W, the gap is the
largest sigma_k / sigma_{k+1} for k <= W / 2, and k its place; Xu finds that it parts the few modes that
learn from the rest, and that it opens or closes around changes of phase. There the window holds updates of
parameters; here it holds increments of gradients, which is what the log has.

One long row makes a gap of itself. So each ratio is held against that of independent noise with the window's
own norms, in many dimensions: the eigenvalues of the tridiagonal matrix of e_t + e_{t-1} and -e_t, e_t =
||g_t||^2. The largest quotient of both is the figure, without units, at least 0 and about 1 for noise; the
gap is open from a window above 2 on, until one below 1.5; windows start every 5 rows. In few dimensions noise
has gaps: where fewer than 32 parameters carry the energy there is no verdict. What follows from a gap for
training is a conjecture: this is something to look at, not to change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..results.samples import WINDOW
from .decision import CLEAR, KEEP, NOISE, NOTE, Decision, Doubles, Figure
from .evidence import Evidence, carrying_parameters
from .missing import unknown

NAME = "edge"
SOURCE = "Xu, the spectral edge, arXiv 2603.28964"
OPENS = 2.0
CLOSES = 1.5
"""Of the ratio that noise with the same norms has: 0.5 percent of lognormal logs of 32 parameters pass 2."""
LEAST_PARAMETERS = 32
SHOWN = 2


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model."""
    if evidence.windows is None or evidence.window_rows is None:
        return [unknown(NAME, None, evidence.no_windows, SOURCE)]
    if not evidence.windows.size:
        return [unknown(NAME, None, f"fewer than {WINDOW} increments", SOURCE)]
    if not evidence.windows.any():
        return [unknown(NAME, None, "the {gradient} never changes", SOURCE)]
    if carrying_parameters(evidence.analysis.total) < LEAST_PARAMETERS:
        why = f"fewer than {LEAST_PARAMETERS} parameters carry the energy: noise has gaps too"
        return [unknown(NAME, None, why, SOURCE)]
    noise = noise_squares(evidence.analysis.steps.grad_norm, evidence.window_rows)
    gaps, places = spectral_gaps(evidence.windows, noise)
    spans = open_spans(gaps)
    middle = Figure("gap_over_noise", float(np.median(gaps[gaps > 0])))
    largest = Figure("largest_over_noise", float(gaps.max()), None, OPENS, NOISE)
    if not spans:
        text = "nothing to change: no gap opens"
        return [Decision(NAME, None, KEEP, text, (largest, middle), CLEAR, SOURCE)]
    told = [_told(evidence, evidence.window_rows, places, span) for span in spans[:SHOWN]]
    more = f" and {len(spans) - SHOWN} more" if len(spans) > SHOWN else ""
    figures = (largest, middle, Figure("openings", float(len(spans))))
    return [Decision(NAME, None, NOTE, "gap open " + ", ".join(told) + more, figures, CLEAR, SOURCE, 10)]


def _told(
    evidence: Evidence,
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    span: tuple[int, int],
) -> str:
    first, last = span
    place = int(np.bincount(places[first : last + 1]).argmax())
    stop = min(int(rows[last]) + WINDOW, evidence.analysis.run.rows - 1)
    return f"{evidence.step(int(rows[first]))}-{evidence.step(stop)} (k={place})"


def noise_squares(norms: Doubles, starts: NDArray[np.int64]) -> Doubles:
    """(n, W) sigma_i^2, descending, of the increments of independent noise in many dimensions.

    norms : (N,), ||g_t||; starts : (n,), first row of each window of W increments
    """
    energies = norms[starts[:, None] + np.arange(WINDOW + 1)] ** 2
    largest = energies.max(axis=1, keepdims=True)
    energies = np.divide(energies, largest, out=np.zeros_like(energies), where=largest > 0)
    gram = np.zeros((starts.size, WINDOW, WINDOW))
    at = np.arange(WINDOW)
    gram[:, at, at] = energies[:, 1:] + energies[:, :-1]
    gram[:, at[1:], at[:-1]] = gram[:, at[:-1], at[1:]] = -energies[:, 1:-1]
    return np.asarray(np.maximum(np.linalg.eigvalsh(gram)[:, ::-1], 0.0))


def spectral_gaps(squares: Doubles, noise: Doubles) -> tuple[Doubles, NDArray[np.int64]]:
    """(n,) the largest sigma_k / sigma_{k+1} over that of noise, k <= W / 2, and (n,) int64 that k.

    squares, noise : (n, W), sigma_i^2 of each window, descending; 0 where all are 0
    """
    quotients = np.where(squares[:, :1] > 0, _ratios(squares) / _ratios(noise), 0.0)
    return quotients.max(axis=1), quotients.argmax(axis=1) + 1


def _ratios(squares: Doubles) -> Doubles:
    """(n, W / 2) sigma_k / sigma_{k+1}; values below 1e-6 of the first are rounding."""
    half = squares.shape[1] // 2
    floored = np.maximum(squares, np.maximum(1e-6 * squares[:, :1], 1e-300))
    return np.asarray(np.sqrt(floored[:, :half] / floored[:, 1 : half + 1]))


def open_spans(gaps: Doubles) -> list[tuple[int, int]]:
    """First and last window of each time that the gap is open."""
    spans: list[tuple[int, int]] = []
    start = None
    for at, gap in enumerate(gaps.tolist()):
        if start is None and gap > OPENS:
            start = at
        elif start is not None and gap < CLOSES:
            spans.append((start, at - 1))
            start = None
    if start is not None:
        spans.append((start, gaps.size - 1))
    return spans
