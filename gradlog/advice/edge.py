"""The gap in the rolling spectrum of increments: where it opens and where it closes.

The spectral edge: of the increments of W = 10 successive rows, sigma_1 >= .. >= sigma_W, the gap is the
largest sigma_k / sigma_{k+1} for k <= W / 2, and k its place; Xu finds that it parts the few modes that
learn from the rest, and that it opens or closes around changes of phase. There the window holds updates of
parameters; here it holds increments of gradients, which is what the log has. Without units, at least 1.
Increments of white noise have 1.15 (they alternate). A gap is open from a window above 2 on, until one
below 1.5; windows start every 5 rows. What follows from it for training is a conjecture: this is something
to look at, not to change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..results.samples import WINDOW
from .decision import CERTAIN, KEEP, NOTE, Decision, Doubles, Figure
from .evidence import Evidence
from .missing import unknown

NAME = "edge"
SOURCE = "Xu, the spectral edge, arXiv 2603.28964"
OPENS = 2.0
CLOSES = 1.5
SHOWN = 2


def decide(evidence: Evidence) -> list[Decision]:
    """For the whole model."""
    if evidence.windows is None or evidence.window_rows is None:
        return [unknown(NAME, None, evidence.no_windows, SOURCE)]
    if not evidence.windows.size:
        return [unknown(NAME, None, f"fewer than {WINDOW} increments", SOURCE)]
    gaps, places = spectral_gaps(evidence.windows)
    if not (gaps > 0).any():
        return [unknown(NAME, None, "the gradient never changes", SOURCE)]
    spans = open_spans(gaps)
    middle = Figure("gap", float(np.median(gaps[gaps > 0])))
    largest = Figure("largest_gap", float(gaps.max()))
    if not spans:
        text = "nothing to change: no gap opens"
        return [Decision(NAME, None, KEEP, text, (middle, largest), CERTAIN, SOURCE)]
    told = [_told(evidence, evidence.window_rows, places, span) for span in spans[:SHOWN]]
    more = f" and {len(spans) - SHOWN} more" if len(spans) > SHOWN else ""
    figures = (largest, middle, Figure("openings", float(len(spans))))
    return [Decision(NAME, None, NOTE, "gap open " + ", ".join(told) + more, figures, CERTAIN, SOURCE, 10)]


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


def spectral_gaps(squares: Doubles) -> tuple[Doubles, NDArray[np.int64]]:
    """(n,) the largest sigma_k / sigma_{k+1}, k <= W / 2, and (n,) int64 that k; 0 where all are 0.

    squares : (n, W), sigma_i^2 of each window, descending. Values below 1e-6 of the first are rounding.
    """
    half = squares.shape[1] // 2
    floored = np.maximum(squares, 1e-6 * squares[:, :1])
    alive = squares[:, 0] > 0
    ratios = np.zeros((squares.shape[0], half))
    ratios[alive] = np.sqrt(floored[alive, :half] / floored[alive, 1 : half + 1])
    return ratios.max(axis=1), ratios.argmax(axis=1) + 1


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
