"""Predictable rank of the increments within each window of training, beside that of noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..results.reasons import ALL_ZERO
from ..results.result import Analysis
from .drawn_run import DrawnRun
from .panel import Heading, Panel, line, looks_of_ranks, noise_handle, noise_line, rows_of_style, sparse_ticks
from .style import Style
from .training_windows import NO_WINDOWS


def draw(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """r* of each epsilon, of one run; of one epsilon, of several."""
    first = runs[0].analysis.windows
    assert first is not None
    looks, of = looks_of_ranks(runs, list(first.total.rank))
    entries: list[Any] = []
    for run, epsilon, color, marker, dashes in looks:
        windows = run.analysis.windows
        assert windows is not None
        x = run.middles(windows.rows)
        found = line(axes, x, windows.total.rank[epsilon], color=color, marker=marker, dashes=dashes)
        found.set_label(f"eps {epsilon:g}")
        entries += [found] if runs[0].alone else []
        noise = windows.total.rank_reference.get(epsilon)
        if noise is not None:
            noise_line(axes, x, noise, color=color, linewidth=0.8 * style.line)
    entries.append(noise_handle())
    axes.set_ylim(bottom=0)
    sparse_ticks(axes.yaxis, 4)
    axes.set_ylabel("directions r*")
    return Heading(f"{of} within each window", entries)


def lacks(analysis: Analysis) -> str:
    """Why there are no ranks of windows; "" where there are."""
    if analysis.run.rows < 2:
        return "one row has no increments"
    if analysis.total.energy == 0:
        return ALL_ZERO
    if analysis.windows is None:
        return NO_WINDOWS
    return (
        ""
        if analysis.windows.total.rank
        else "ranks of windows come of an exact spectrum over rows, and there is none"
    )


WINDOW_RANK = Panel(
    "window-rank", "r* within each window", lacks, draw, rows_of_style(0.95), over_training=True
)
