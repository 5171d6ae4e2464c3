"""How far the leading subspace of each window of training is that of the window before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..chance import share_by_chance
from ..results.reasons import ALL_ZERO
from ..results.result import Analysis, SubspaceResult, SubspaceWindow
from .drawn_run import DrawnRun
from .panel import Heading, Panel, handle, line, noise_handle, rows_of_style
from .style import GREY, NOISE, Style

Doubles = NDArray[np.float64]

DASHED = (0, (4, 2))


def draw(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """Overlap of consecutive windows, full for gradients and dashed for increments; by chance, dotted."""
    held = [_subspace(run) for run in runs]
    for run, subspace in zip(runs, held, strict=True):
        width = subspace.window
        for measure, dashes, alpha in ((subspace.gradients, "-", 1.0), (subspace.increments, DASHED, 0.65)):
            rows, overlap = overlaps(measure.windows)
            x = run.middles(np.stack([rows, np.minimum(rows + width, run.analysis.run.rows)], axis=1))
            line(axes, x, overlap, color=run.color, marker=run.marker, dashes=dashes, alpha=alpha)
        chance = share_by_chance(subspace.dimensions, run.analysis.run.parameters)
        if chance is not None:
            axes.axhline(chance, color=run.color, linestyle=NOISE, linewidth=0.8 * style.line)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("overlap")
    entries = [
        handle(runs[0].analysis.run.kind.name),
        handle("increments", dashes=DASHED, alpha=0.65),
        noise_handle("by chance", color=GREY),
    ]
    return Heading(f"Overlap with the leading {_words(held)} before", entries)


def overlaps(windows: Sequence[SubspaceWindow]) -> tuple[NDArray[np.int64], Doubles]:
    """First rows of the windows that have an overlap, and that: mean squared cosine, in [0, 1]."""
    known = [(window.row, window.overlap) for window in windows if window.overlap is not None]
    return (
        np.array([row for row, _ in known], dtype=np.int64),
        np.array([overlap for _, overlap in known], dtype=np.float64),
    )


def _words(held: Sequence[SubspaceResult]) -> str:
    dimensions = {subspace.dimensions for subspace in held}
    windows = {subspace.window for subspace in held}
    directions = f"{dimensions.pop()} directions" if len(dimensions) == 1 else "directions"
    return f"{directions} of the {windows.pop()} rows" if len(windows) == 1 else f"{directions} of the window"


def lacks(analysis: Analysis) -> str:
    """Why there is no overlap to draw; "" where there is."""
    subspace = analysis.total.subspace
    if subspace is None and analysis.total.estimated:
        return "a sketch has no subspaces to follow: they take the log that it was made of"
    if subspace is None:
        return "subspaces were not followed: analyze the log with a subspace"
    if analysis.total.energy == 0:
        return ALL_ZERO
    if not overlaps(subspace.gradients.windows)[0].size and not overlaps(subspace.increments.windows)[0].size:
        return f"overlap takes two whole windows of {subspace.window} rows, and there are {analysis.run.rows}"
    return ""


def _subspace(run: DrawnRun) -> SubspaceResult:
    subspace = run.analysis.total.subspace
    assert subspace is not None
    return subspace


OVERLAP = Panel(
    "overlap", "Overlap of leading subspaces", lacks, draw, rows_of_style(0.95), over_training=True
)
