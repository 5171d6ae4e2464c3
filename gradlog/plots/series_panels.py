"""Loss and gradient norm over training: each row faintly, and what windows of them have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results.reasons import NO_SERIES
from ..results.result import Analysis
from .drawn_run import DrawnRun
from .panel import Heading, Panel, line, rows_of_style, scale_of_values
from .style import Style
from .training_windows import means, root_mean_squares, shown_windows

Doubles = NDArray[np.float64]

MOST_ROWS = 2000
"""That are drawn one by one; of more, each point is the mean of some."""


def draw_loss(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """The loss as logged."""
    axes.set_ylabel("loss")
    _draw(axes, runs, style, lambda run: _loss(run.analysis), means)
    return Heading("Loss, mean of each window")


def draw_norm(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """||g_t|| of the whole model."""
    axes.set_ylabel(runs[0].say("{gradient} norm"))
    _draw(axes, runs, style, lambda run: run.analysis.steps.grad_norm, root_mean_squares)
    return Heading(runs[0].say("Norm of {gradients}, root mean square of each window"))


def _draw(
    axes: Any,
    runs: Sequence[DrawnRun],
    style: Style,
    series_of: Callable[[DrawnRun], Doubles],
    taken: Callable[[Doubles, NDArray[np.int64]], Doubles],
) -> None:
    drawn = []
    for run in runs:
        series = series_of(run)
        rows = _bins(series.size)
        x, y = run.middles(rows), means(series, rows)
        axes.plot(x, y, color=run.color, alpha=0.3, linewidth=0.5 * style.line)
        windows = shown_windows(run.analysis)
        smooth = taken(series, windows)
        line(axes, run.middles(windows), smooth, color=run.color, marker=run.marker, dashes=run.dashes)
        drawn += [y, smooth]
    scale_of_values(axes.yaxis, drawn)


def _bins(rows: int) -> NDArray[np.int64]:
    """(n, 2) first and last + 1 of the rows of each point."""
    edges = np.linspace(0, rows, min(rows, MOST_ROWS) + 1).round().astype(np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _loss(analysis: Analysis) -> Doubles:
    series = analysis.series or {}
    return np.asarray(series.get("loss", np.zeros(0)), dtype=np.float64)


def lacks_loss(analysis: Analysis) -> str:
    """Why there is no loss to draw; "" where there is."""
    if analysis.series is None:
        return NO_SERIES
    if "loss" not in analysis.series:
        return "the log holds no series `loss`"
    return "" if np.isfinite(_loss(analysis)).any() else "the logged loss holds no finite number"


def lacks_norm(analysis: Analysis) -> str:
    """Why there are no norms to draw; "" where there are."""
    return "" if analysis.steps.grad_norm.size else NO_SERIES


LOSS = Panel("loss", "Loss over training", lacks_loss, draw_loss, rows_of_style(0.75), over_training=True)
NORM = Panel(
    "norm", "Gradient norm over training", lacks_norm, draw_norm, rows_of_style(0.75), over_training=True
)
