"""What a panel is, and the parts that panels are drawn with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from ..results.result import Analysis
from .drawn_run import DrawnRun
from .library import load
from .style import COLORS, DASHES, GREY, MARKERS, NOISE, PALE, Style

Doubles = NDArray[np.float64]

LOG_FROM = 12.0
"""Ratio of the largest to the least value from which on an axis is logarithmic."""
MOST_MARKED = 20
"""Points of a line that each have a marker; of more some, so that markers are told apart."""


@dataclass(frozen=True)
class Heading:
    """What stands above a panel. title : its lines; entries : of its legend, with labels"""

    title: str
    entries: Sequence[Any] = ()


@dataclass(frozen=True)
class Panel:
    """One kind of picture.

    title : where there is nothing to draw; lacks : why an analysis has nothing to show there, "" where it has
    draw : on axes, of the runs that have something to show, in a style
    height : in rows of the style; over_training : whether the x axis is training
    apart : whether each run has axes of its own
    """

    name: str
    title: str
    lacks: Callable[[Analysis], str]
    draw: Callable[[Any, Sequence[DrawnRun], Style], Heading]
    height: Callable[[Sequence[DrawnRun], Style], float]
    over_training: bool = False
    apart: bool = False


def rows_of_style(count: float) -> Callable[[Sequence[DrawnRun], Style], float]:
    """A height that does not depend on what is drawn."""
    return lambda _runs, _style: count


def line(
    axes: Any, x: Doubles, y: Doubles, *, color: str, marker: str = "", dashes: Any = "-", **how: Any
) -> Any:
    """A line of data, with markers that are not too close; with all, where some points stand alone."""
    every = max(1, -(-int(np.size(x)) // MOST_MARKED)) if np.isfinite(y).all() else 1
    return axes.plot(x, y, color=color, marker=marker or None, linestyle=dashes, markevery=every, **how)[0]


def noise_line(axes: Any, x: Doubles, y: Doubles, *, color: str, **how: Any) -> Any:
    """What noise would give there: a single value is a short line."""
    if np.size(x) == 1:
        return axes.plot(x, y, color=color, marker="_", linestyle="none", **how)[0]
    return axes.plot(x, y, color=color, linestyle=NOISE, **how)[0]


def handle(label: str, *, color: str = GREY, marker: str = "", dashes: Any = "-", **how: Any) -> Any:
    """An entry of a legend that stands for no single line."""
    line2d = load("matplotlib.lines").Line2D
    return line2d([], [], color=color, marker=marker or None, linestyle=dashes, label=label, **how)


def noise_handle(label: str = "noise", **how: Any) -> Any:
    """The entry for lines of noise."""
    return handle(label, dashes=NOISE, **how)


def scale_of_values(axis: Any, values: Sequence[Doubles]) -> None:
    """A logarithmic scale where values are of different magnitude; with plain numbers at its ticks."""
    known = np.concatenate([np.ravel(each) for each in values]) if values else np.zeros(0)
    known = known[np.isfinite(known)]
    if known.size and known.min() > 0 and known.max() > LOG_FROM * known.min():
        ticker = load("matplotlib.ticker")
        (axis.axes.set_yscale if axis.axis_name == "y" else axis.axes.set_xscale)("log")
        decades = np.log10(known.max() / known.min())
        subs = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
        axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=7))
        axis.set_minor_locator(ticker.NullLocator())
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: plain_number(value)))
        axis.set_minor_formatter(ticker.NullFormatter())


def plain_number(value: float) -> str:
    """A number at a tick, without mathematics: 0.1, 20, 1e-9."""
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, _, exponent = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.4g}"


def reference_line(axes: Any, y: float, **how: Any) -> None:
    """A thin line across that is no data."""
    axes.axhline(y, color=PALE, linewidth=0.6 * load().rcParams["lines.linewidth"], zorder=0, **how)


def sparse_ticks(axis: Any, most: int = 6) -> None:
    """Few whole numbers at the ticks, with commas."""
    ticker = load("matplotlib.ticker")
    axis.set_major_locator(ticker.MaxNLocator(most, integer=True, min_n_ticks=1, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))


def middle_epsilon(runs: Sequence[DrawnRun]) -> float | None:
    """The epsilon that is shown where there is room for one: 0.05, or else a middle one of all runs."""
    shared: list[float] = []
    for run in runs:
        spectrum = run.analysis.total.spectrum
        held = [] if spectrum is None else [rank.epsilon for rank in spectrum.rank]
        shared = [epsilon for epsilon in (shared if run is not runs[0] else held) if epsilon in held]
    if not shared:
        return None
    return 0.05 if 0.05 in shared else sorted(shared)[len(shared) // 2]


Look = tuple[DrawnRun, float, str, str, Any]


def looks_of_ranks(runs: Sequence[DrawnRun], epsilons: Sequence[float]) -> tuple[list[Look], str]:
    """Run, epsilon, colour, marker and dashes of each series of r*; and what a title calls them.

    Of one run each of the epsilons is shown; of several their `middle_epsilon`, and nothing without it.
    """
    if runs[0].alone:
        return [
            (runs[0], epsilon, COLORS[at % len(COLORS)], MARKERS[at % len(MARKERS)], DASHES[0])
            for at, epsilon in enumerate(epsilons)
        ], "r*"
    epsilon = middle_epsilon(runs)
    if epsilon is None:
        return [], "r*"
    return [(run, epsilon, run.color, run.marker, run.dashes) for run in runs], f"r*({epsilon:g})"
