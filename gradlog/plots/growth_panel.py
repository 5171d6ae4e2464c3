"""Growth of the predictable rank: r* of the first rows, as more of them come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results.result import Analysis
from ..statistics.noise_reference import spectrum_reference
from .drawn_run import DrawnRun
from .noise_energies import noise_energies
from .panel import Heading, Panel, looks_of_ranks, noise_handle, rows_of_style, sparse_ticks
from .spectrum_panel import lacks as lacks_spectrum
from .style import NOISE, Style

Doubles = NDArray[np.float64]

MOST_POINTS = 24
"""Of the line of noise."""
NOT_ON_THE_WAY = {
    "exact": "an exact spectrum is of all rows at once: the incremental method has r* of the first rows",
    "sketch": "a sketch has r* of all rows alone: the incremental method has r* of the first rows",
}


def draw(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """r* of each epsilon, of one run; of one epsilon, of several. Bands reach from bound to bound."""
    spectrum = runs[0].analysis.total.spectrum
    assert spectrum is not None
    looks, of = looks_of_ranks(runs, [rank.epsilon for rank in spectrum.rank])
    entries: list[Any] = []
    for run, epsilon, color, marker, dashes in looks:
        rows, lower, upper = growth_of(run.analysis, epsilon)
        axes.fill_between(rows, lower, upper, color=color, alpha=0.25, linewidth=0)
        every = max(1, rows.size // 8)
        found = axes.plot(
            rows, upper, color=color, marker=marker, linestyle=dashes, markevery=every, linewidth=style.line
        )[0]
        found.set_label(f"eps {epsilon:g}")
        entries += [found] if runs[0].alone else []
        at, noise = noise_growth(run.analysis, epsilon, rows)
        axes.plot(at, noise, color=color, linestyle=NOISE, linewidth=0.8 * style.line)
    entries.append(noise_handle())
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    sparse_ticks(axes.xaxis)
    sparse_ticks(axes.yaxis)
    axes.set_xlabel("first rows")
    axes.set_ylabel("directions r*")
    return Heading(f"Growth of {of}", entries)


def growth_of(analysis: Analysis, epsilon: float) -> tuple[Doubles, Doubles, Doubles]:
    """(points,) rows, and bounds on r* of so many first rows."""
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    number = next(at for at, rank in enumerate(spectrum.rank) if rank.epsilon == epsilon)
    points = [(point.rows, *point.bounds[number]) for point in spectrum.growth]
    rows, lower, upper = np.array(points, dtype=np.float64).T
    return rows, lower, upper


def noise_growth(analysis: Analysis, epsilon: float, rows: Doubles) -> tuple[Doubles, Doubles]:
    """Some of the rows, and r* that noise with the norms of so many first rows has; none without norms."""
    made = noise_energies(analysis)
    if made is None:
        return np.zeros(0), np.zeros(0)
    energies, parameters, shares = made
    at, found = [], []
    for count in rows[np.unique(np.linspace(0, rows.size - 1, min(rows.size, MOST_POINTS)).astype(int))]:
        reference = spectrum_reference(energies[: int(count)], parameters, shares, [epsilon])
        if reference is not None:
            at.append(float(count))
            found.append(float(reference.rank[0]))
    return np.array(at), np.array(found)


def lacks(analysis: Analysis) -> str:
    """Why there is no growth to draw; "" where there is."""
    why = lacks_spectrum(analysis)
    spectrum = analysis.total.spectrum
    if why or spectrum is None:
        return why
    if spectrum.growth:
        return ""
    return NOT_ON_THE_WAY.get(spectrum.method, "too few rows to follow r* on the way")


GROWTH = Panel("growth", "Growth of r*", lacks, draw, rows_of_style(1.15))
