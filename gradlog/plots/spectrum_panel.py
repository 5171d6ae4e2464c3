"""The cumulative spectrum of the increments, where it passes 1 - eps, and what noise would have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results.reasons import ALL_ZERO
from ..results.result import Analysis, RankResult, SpectrumResult
from ..statistics.noise_shares import noise_shares
from .drawn_run import DrawnRun
from .library import load
from .noise_energies import noise_energies
from .panel import Heading, Panel, handle, noise_handle, reference_line, rows_of_style, sparse_ticks
from .style import GREY, NOISE, Style

Doubles = NDArray[np.float64]

LOW_RANK = 0.08
"""Of the directions that are possible: where so few suffice, their number is on a logarithmic axis."""
STEPS = "steps-post"
"""At r the line has risen to what r directions hold: it crosses 1 - eps at r*."""
BEYOND = 3.0
"""The axis ends where so many times less than the least epsilon is left out."""


def draw(axes: Any, runs: Sequence[DrawnRun], style: Style) -> Heading:
    """Share of the energy that the leading r directions hold, by how much is left out."""
    epsilons = sorted({rank.epsilon for run in runs for rank in _spectrum(run).rank}, reverse=True)
    shown = [epsilon for epsilon in epsilons if epsilon > 0]
    for epsilon in shown:
        reference_line(axes, 1 - epsilon)
    several = not runs[0].alone
    entries: list[Any] = []
    missing: list[str] = []
    with_noise = with_bounds = False
    most = 1.0
    for run in runs:
        spectrum = _spectrum(run)
        held = cumulative_shares(spectrum)
        most = max(most, directions(run.analysis))
        if held.size:
            found = axes.plot(
                np.arange(1, held.size + 1), held, color=run.color, linestyle=run.dashes, drawstyle=STEPS
            )[0]
            found.set_label("increments")
            entries += [] if several else [found]
        else:
            missing.append(run.label)
        with_bounds |= _draw_ranks(axes, run, spectrum)
        with_noise |= _draw_noise(axes, run, spectrum, style)
    if with_bounds:
        entries.append(handle("r*, with its bounds", marker="o", dashes="none", color=GREY))
    else:
        entries.append(handle("r*", marker="o", dashes="none", color=GREY))
    if with_noise:
        entries.append(noise_handle("noise", marker="o", markerfacecolor="white"))
    _scale(axes, shown, most, runs)
    axes.set_xlabel(f"directions r, of {most:,.0f}")
    axes.set_ylabel("share of ‖H‖² held")
    title = "Cumulative spectrum of the increments"
    if missing:
        title += f"\n{', '.join(missing)}: no singular values here, ranks alone"
    return Heading(title, entries)


def _draw_ranks(axes: Any, run: DrawnRun, spectrum: SpectrumResult) -> bool:
    """A marker at each r*, with its bounds where they differ; whether any do."""
    bounded = False
    for rank in spectrum.rank:
        found = rank_shown(rank)
        if found is None or rank.epsilon <= 0:
            continue
        y = 1 - rank.epsilon
        if rank.lower < rank.upper:
            axes.plot([max(1, rank.lower), rank.upper], [y, y], color=run.color, marker="|", linewidth=0.8)
            bounded = True
        axes.plot([found], [y], color=run.color, marker=run.marker, linestyle="none", zorder=4)
    return bounded


def _draw_noise(axes: Any, run: DrawnRun, spectrum: SpectrumResult, style: Style) -> bool:
    """The spectrum of noise, and its r* as the analysis has them; whether there is any."""
    thin = 0.8 * style.line
    made = noise_energies(run.analysis)
    shares = np.zeros(0) if made is None else noise_shares(*made)
    if shares.size:
        axes.plot(np.arange(1, shares.size + 1), shares, color=run.color, linestyle=NOISE, linewidth=thin)
    known = [rank for rank in spectrum.rank if rank.reference is not None and rank.epsilon > 0]
    axes.plot(
        [rank.reference for rank in known], [1 - rank.epsilon for rank in known], color=run.color,
        marker=run.marker, markerfacecolor="white", linestyle="none", zorder=3,
    )  # fmt: skip
    return bool(shares.size or known)


def _scale(axes: Any, epsilons: Sequence[float], most: float, runs: Sequence[DrawnRun]) -> None:
    ticker = load("matplotlib.ticker")
    end = min([0.1, *epsilons]) / BEYOND
    # Shares by what they leave out: 0.9, 0.99 and 0.999 lie equally far apart.
    axes.set_yscale("function", functions=(_nines, lambda nines: 1 - 10.0 ** -np.asarray(nines)))
    axes.set_ylim(0.0, 1 - end)
    ticks = [0.0, 0.5, *(1 - epsilon for epsilon in epsilons)]
    axes.yaxis.set_major_locator(ticker.FixedLocator(ticks))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: percent(value)))
    few = [rank_shown(rank) or math.inf for run in runs for rank in _spectrum(run).rank[:1]]
    if most > 20 and min(few, default=math.inf) < LOW_RANK * most:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlim(1, most)
    else:
        axes.set_xlim(0, most)
        sparse_ticks(axes.xaxis)


def _nines(share: Doubles) -> Doubles:
    return np.asarray(-np.log10(np.clip(1 - np.asarray(share), 1e-12, None)))


def percent(share: float) -> str:
    """A share at a tick."""
    return f"{100 * share:.4g}%"


def cumulative_shares(spectrum: SpectrumResult) -> Doubles:
    """(R,) share of ||H||^2 that the leading 1, 2, ... directions hold; empty without singular values.

    Of bounded and estimated spectra the values that there are, which are not all.
    """
    if spectrum.energy <= 0:
        return np.zeros(0)
    return np.asarray(np.minimum(np.cumsum(np.square(spectrum.singular_values)) / spectrum.energy, 1.0))


def directions(analysis: Analysis) -> float:
    """min(N - 1, D): as many directions as increments can have."""
    return float(max(1, min(analysis.run.rows - 1, analysis.run.parameters)))


def rank_shown(rank: RankResult) -> float | None:
    """r*, or the middle of its bounds where it is not known; None where nothing is."""
    if rank.rank is not None:
        return float(rank.rank)
    return (rank.lower + rank.upper) / 2 if rank.upper > rank.lower else None


def lacks(analysis: Analysis) -> str:
    """Why there is no spectrum to draw; "" where there is."""
    spectrum = analysis.total.spectrum
    if analysis.run.rows < 2:
        return "one row has no increments"
    if spectrum is None:
        return "no ranks were computed, and no spectrum"
    if analysis.total.energy == 0:
        return ALL_ZERO
    return "all increments are zero" if spectrum.energy == 0 else ""


def _spectrum(run: DrawnRun) -> SpectrumResult:
    spectrum = run.analysis.total.spectrum
    assert spectrum is not None
    return spectrum


SPECTRUM = Panel("spectrum", "Cumulative spectrum of the increments", lacks, draw, rows_of_style(1.35))
