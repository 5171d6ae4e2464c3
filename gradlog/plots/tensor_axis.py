"""The axis that panels of tensors share: one below the other, the first layers at the top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .depth import in_depth_order, name_ticks
from .drawn_run import DrawnRun
from .library import load
from .style import PALE, Style

LEAST, MOST = 0.75, 2.4
"""Height of a panel of tensors, in rows of the style."""
NAMES = 0.34
"""Of the width of a panel, that names may take."""
AROUND = 0.45
"""Inches for what stands around it."""


def tensors_of(runs: Sequence[DrawnRun]) -> list[str]:
    """Names of the tensors of all runs, in the order of depth."""
    return in_depth_order(tensor.name for run in runs for tensor in run.analysis.tensors)


def height(runs: Sequence[DrawnRun], style: Style) -> float:
    """In rows of the style: a line for each tensor, within limits."""
    wanted = (len(tensors_of(runs)) * style.line_height + AROUND) / style.row
    return min(max(wanted, LEAST), MOST)


def draw_tensor_axis(axes: Any, names: Sequence[str], style: Style, room: float) -> None:
    """Names beside their tensors, or beside groups of them, which thin lines part.

    room : height of the panel in rows of the style
    """
    lines = int((room * style.row - AROUND) / style.line_height)
    letters = int(NAMES * style.letters)
    ticks = name_ticks(names, max(3, lines), letters)
    ticker = load("matplotlib.ticker")
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.yaxis.set_major_locator(ticker.FixedLocator([tick.middle for tick in ticks]))
    axes.yaxis.set_major_formatter(ticker.FixedFormatter([tick.text for tick in ticks]))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    if any(tick.last - tick.first > 1 for tick in ticks):
        for tick in ticks[1:]:
            axes.axhline(tick.first - 0.5, color=PALE, linewidth=0.4 * style.line, zorder=1.5)
        axes.tick_params(axis="y", length=0)
